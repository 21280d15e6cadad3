#include "dpi/buffer.h"

#include <string.h>

const struct dpi_buf_info dpi_buf_info[DPI_NB_BUFS] = {
	[DPI_RAW] = { "payload", NULL, NULL, 0, DPI_LAYER_NONE, DPI_BOTH, 0 },
	[DPI_EVENT] = { "event", NULL, NULL, 0, DPI_LAYER_NONE, DPI_BOTH, 0 },
#define DPI_BUFFER_ROW(id, name, other, modifier, letter, layer, dirs, flags) \
	[DPI_##id] = { name, other, modifier, letter, DPI_LAYER_##layer, dirs, flags },
	DPI_BUFFERS(DPI_BUFFER_ROW)
#undef DPI_BUFFER_ROW
};

static const char *const layers[DPI_NB_LAYERS] = {
	[DPI_LAYER_NONE] = "unknown",
	[DPI_LAYER_HTTP] = "http",
	[DPI_LAYER_HTTP2] = "http2",
	[DPI_LAYER_DNS] = "dns",
	[DPI_LAYER_TLS] = "tls",
	[DPI_LAYER_SSH] = "ssh",
	[DPI_LAYER_SMTP] = "smtp",
	[DPI_LAYER_FTP] = "ftp",
	[DPI_LAYER_FTP_DATA] = "ftp-data",
	[DPI_LAYER_SMB] = "smb",
	[DPI_LAYER_DCERPC] = "dcerpc",
	[DPI_LAYER_MQTT] = "mqtt",
	[DPI_LAYER_OTHER] = "other",
	[DPI_LAYER_FAILED] = "failed",
};

int
dpi_buf_sticky(const char *name)
{
	for (int i = DPI_EVENT + 1; i < DPI_NB_BUFS; i++) {
		const struct dpi_buf_info *b = &dpi_buf_info[i];

		if (strcmp(b->name, name) == 0 || (b->other != NULL && strcmp(b->other, name) == 0))
			return i;
	}
	return -1;
}

int
dpi_buf_modifier(const char *name)
{
	for (int i = DPI_EVENT + 1; i < DPI_NB_BUFS; i++)
		if (dpi_buf_info[i].modifier != NULL && strcmp(dpi_buf_info[i].modifier, name) == 0)
			return i;
	return -1;
}

int
dpi_buf_letter(char letter)
{
	for (int i = DPI_EVENT + 1; i < DPI_NB_BUFS; i++)
		if (dpi_buf_info[i].pcre == letter)
			return i;
	return -1;
}

const char *
dpi_layer_name(enum dpi_layer layer)
{
	return layer < DPI_NB_LAYERS ? layers[layer] : "unknown";
}

int
dpi_layer_find(const char *name)
{
	for (int i = 1; i < DPI_NB_LAYERS; i++)
		if (strcmp(layers[i], name) == 0)
			return i;
	return -1;
}
