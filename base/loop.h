/* An event loop (one libevent base, one thread) and the only way into it from another thread.
 *
 *   any thread ── loop_post(fn, arg) ──▶ locked queue + eventfd ──▶ fn(arg) on the loop's thread
 *
 * Everything else that takes a struct loop * runs on the loop's own thread. */
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include <stdbool.h>
#include "base/err.h"

struct event_base;
struct loop;

/* Priorities of events (event_priority_set). Deadlines are prompt; sockets and posts are usual, which is what
 * events are made with: handled in turns, so that what came together is done together. After LOOP_SLICE_US of
 * usual callbacks the loop looks for prompt ones and for timers. */
enum { LOOP_PROMPT, LOOP_USUAL, LOOP_PRIORITIES };
enum { LOOP_SLICE_US = 1000 };

typedef void (*loop_fn)(void *arg);

int loop_create(struct loop **out, struct err *e);
void loop_free(struct loop *l); /* after loop_run has returned; posted work that never ran is dropped */
struct event_base *loop_base(struct loop *l);
void loop_run(struct loop *l);                         /* until loop_stop */
void loop_stop(struct loop *l);                        /* any thread */
void loop_post(struct loop *l, loop_fn fn, void *arg); /* any thread; order kept per posting thread */

#endif
