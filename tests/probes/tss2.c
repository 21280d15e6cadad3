/*
 * probe: tss2
 * for: the TPM of a host that attests itself
 * pkg: tss2-esys tss2-tctildr tss2-mu tss2-rc
 * libs:
 * debian: libtss2-dev
 * required: yes
 */
#include <tss2/tss2_esys.h>
#include <tss2/tss2_mu.h>
#include <tss2/tss2_rc.h>
#include <tss2/tss2_tctildr.h>

int
main(void)
{
	TSS2_TCTI_CONTEXT *tcti = NULL;
	ESYS_CONTEXT *esys = NULL;

	if (Tss2_TctiLdr_Initialize("device:/dev/null", &tcti) == TSS2_RC_SUCCESS)
		return Esys_Initialize(&esys, tcti, NULL) != TSS2_RC_SUCCESS;
	return Tss2_RC_Decode(TSS2_TCTI_RC_IO_ERROR) == NULL;
}
