#include "fw/drop.h"

static const struct {
	const char *name, *help;
} drops[] = { [FW_DROP_NONE] = { "none", "not dropped" },
#define ROW(name, text, help) [FW_DROP_##name] = { text, help },
	FW_DROPS(ROW)
#undef ROW
};

const char *
fw_drop_name(unsigned int drop)
{
	return drop < PK_COUNT(drops) ? drops[drop].name : "unknown";
}

const char *
fw_drop_help(unsigned int drop)
{
	return drop < PK_COUNT(drops) ? drops[drop].help : "unknown";
}
