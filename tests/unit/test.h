#pragma once

/* cmocka wants these before itself, and says so only by failing to compile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
