/*
 * The first include of every file here: libstrongswan and libcharon 5.9.8 as Debian builds them.
 *
 * Their headers ask for the config.h that configuring the source tree would have written.  Of its macros only ME
 * (--enable-mediation, which Debian's build has) changes the layout of a public struct; without it
 * charon->initialize would be another function.  The others only keep inline helpers from declaring again what libc
 * has.  abi.h checks when the program starts that all this still holds.
 *
 * This folder is a guest of libcharon and writes as strongSwan does.  What links libcharon is under the GPL; so these
 * files make programs of their own, and nothing else in the tree includes them.
 */
#ifndef SWAN_H_
#define SWAN_H_

#define SWAN_VERSION "5.9.8"

#define CONFIG_H_INCLUDED
#define ME
#define HAVE__BOOL 1
#define HAVE_INT128 1
#define HAVE_CLOCK_GETTIME 1
#define HAVE_CONDATTR_CLOCK_MONOTONIC 1
#define HAVE_EXPLICIT_BZERO 1
#define HAVE_SIGWAITINFO 1
#define HAVE_CLOSEFROM 1
#define HAVE_MEMRCHR 1
#define HAVE_FMEMOPEN 1
#define HAVE_PRINTF_SPECIFIER 1

#include <unistd.h>
#include <string.h>
#include <strings.h>
#include <stdlib.h>
#include <stdint.h>

#include <library.h>
#include <daemon.h>

#endif /* SWAN_H_ */
