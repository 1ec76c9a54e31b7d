/* How the kernel is to treat the calling thread beside others that want the same core. */
#ifndef BASE_PRIORITY_H
#define BASE_PRIORITY_H

/* For threads that somebody waits for by the millisecond and that work in short turns: run soon after waking,
 * even where another thread's turn is not over. Linux 6.12 and later; before, nothing changes. */
void priority_prompt(void);

/* For threads that compute for long, beside which the others shall answer: a third of their share. */
void priority_patient(void);

#endif
