/* A private redis-server for the tests of one program: on a unix socket below a temporary folder, with a
 * password; started at the first call, stopped and removed at exit, gone with the program if that dies. Dies
 * with a message when it cannot start. */
#ifndef TESTS_UNIT_QUEUE_REDIS_FIXTURE_H
#define TESTS_UNIT_QUEUE_REDIS_FIXTURE_H

#include "queue/redis.h"

const struct redis_address *redis_fixture_start(void); /* any number of times; valid until exit */
struct redis *redis_fixture_connect(void);             /* a new connection; redis_free */
void redis_fixture_flush(void);                        /* FLUSHALL */
void redis_fixture_stop_server(void);                  /* as a crash would be: everything in it is lost */
void redis_fixture_start_server(void);                 /* again, at the same address */
void redis_fixture_pause_server(void);                 /* connections stay open, and nothing is answered */
void redis_fixture_resume_server(void);
long long redis_fixture_int(const char *format, ...); /* an integer reply, or -1 */

#endif
