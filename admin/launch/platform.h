/* The whole platform on one machine: Postgres, Redis, gateway, scheduler and worker under one home.
 *
 *     up:   home ─▶ postgres ─▶ database, migrations, logins ─▶ redis ─▶ gateway ─▶ scheduler ─▶ worker ─▶
 * ready down: gateway ─▶ worker ─▶ scheduler ─▶ redis ─▶ postgres, each told to finish and, past its time,
 * killed
 *
 * up starts what is missing, so it also repairs a platform of which a process died. */
#ifndef ADMIN_LAUNCH_PLATFORM_H
#define ADMIN_LAUNCH_PLATFORM_H

#include <stdbool.h>
#include <stdint.h>
#include "admin/launch/home.h"
#include "base/err.h"

struct platform_options {
    const char *listen;     /* "127.0.0.1:8080"; port 0 picks a free one */
    const char *tls_listen; /* NULL or "": no TLS */
    const char *tls_cert;   /* NULL: self-signed, made in etc/ */
    const char *tls_key;
    int64_t job_slots;                 /* 0: the worker's own default */
    int64_t predict_threads;           /* 0: likewise */
    int64_t lease_ms;                  /* 0: the binaries' default */
    void (*on_step)(const char *what); /* "starting Postgres"; may be NULL */
};

struct platform_addresses {
    char url[300];     /* "http://127.0.0.1:8080" */
    char tls_url[300]; /* "" without TLS */
};

/* Every process of the table, in the order of starting; NULL behind the last. */
const char *platform_process(int index);

int platform_up(struct home *h, const struct platform_options *o, struct platform_addresses *out,
                struct err *e);

/* *killed counts processes that had to be killed. Succeeds when nothing ran. */
int platform_down(struct home *h, int *killed, struct err *e);

/* Stops one process by name, with SIGTERM and, past its time, SIGKILL. ERR_NOT_FOUND for no such name. */
int platform_stop_one(struct home *h, const char *name, struct err *e);

/* The addresses that `up` wrote down; ERR_NOT_FOUND when the home never ran. */
int platform_addresses(const struct home *h, struct platform_addresses *out, struct err *e);

/* Whether all processes of the home run. */
bool platform_runs(const struct home *h);

#endif
