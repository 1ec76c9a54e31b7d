/* Threads of a library: they take no signal, which is the program's to handle. */
#ifndef BASE_THREAD_H
#define BASE_THREAD_H

#include <pthread.h>
#include <stddef.h>

/* Starts run(arg) with every signal blocked. stack_bytes: 0 for the system's. 0, or pthread_create's errno.
 */
int thread_start(pthread_t *out, size_t stack_bytes, void *(*run)(void *arg), void *arg);

#endif
