/*
 * What is to be done when picketd has lost its SAs: it was started anew.
 */
#ifndef RESYNC_H_
#define RESYNC_H_

/**
 * Give picketd the policies again, and rekey all CHILD SAs: they cannot go on with sequence numbers used before.
 * Until then nothing that wants protection passes.  Context: a thread of libcharon's.
 */
void resync();

#endif /* RESYNC_H_ */
