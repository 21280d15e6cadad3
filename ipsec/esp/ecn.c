#include "ipsec/esp/esp.h"

/* RFC 6040, figure 4: [inner][outer], of Not-ECT, ECT(1), ECT(0), CE as the two bits count. */
static const uint8_t decap[4][4] = {
	{ 0, 0, 0, ESP_ECN_DROP },
	{ 1, 1, 1, 3 },
	{ 2, 1, 2, 3 },
	{ 3, 3, 3, 3 },
};

unsigned int
esp_ecn_decap(unsigned int inner, unsigned int outer)
{
	return decap[inner & 3][outer & 3];
}
