/* Progress on its way to Postgres: best effort, thinned out, and never a reason to fail. */
#include "worker/supervisor_talk.h"

#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"

enum {
    PLACE_TOKENS = 10000,
    PROGRESS_EVERY_MS = 500,
    EVENTS_BURST = 20,
    EVENTS_PER_S = 4,
    MESSAGES_MAX = 600,
    TEXT_MAX = 1000
};

struct entry {
    const struct run *run;
    const char *progress, *level, *type, *message, *data;
};

static int write_entry(struct db *db, void *arg, struct err *e)
{
    const struct entry *n = arg;
    return job_progress(db, n->run->job_id, n->run->fence, n->progress, n->level, n->type, n->message,
                        n->data, e);
}

static void put(struct report *r, const struct entry *entry)
{
    struct entry n = *entry;
    struct err e = {0};
    n.run = r->run;
    int rc = db_run(r->slot->db, r->run->tenant_id, write_entry, &n, &e);
    if (rc == ERR_STALE) r->stale = true;
    if (rc != 0) log_debug("progress_unwritten", "job=%s message=\"%s\"", r->run->job_id, e.message);
}

static double number(const cJSON *o, const char *name)
{
    const cJSON *n = cJSON_GetObjectItemCaseSensitive(o, name);
    return cJSON_IsNumber(n) ? n->valuedouble : -1;
}

bool report_ends_part(const cJSON *m)
{
    const cJSON *phase = cJSON_GetObjectItemCaseSensitive(m, "phase");
    const char *name = cJSON_IsString(phase) ? phase->valuestring : "";
    return strcmp(name, "trial") == 0 || strcmp(name, "fold") == 0;
}

/* How far a progress report is. Measuring is beyond every epoch, the account of a trial or fold beyond that,
 * and what is of none of them beyond all. Trials are counted as they end: halving comes back to them. */
static struct report_place place_of(const cJSON *m)
{
    const cJSON *phase = cJSON_GetObjectItemCaseSensitive(m, "phase");
    const cJSON *trial = cJSON_GetObjectItemCaseSensitive(m, "trial");
    const cJSON *fold = cJSON_GetObjectItemCaseSensitive(m, "fold");
    const char *name = cJSON_IsString(phase) ? phase->valuestring : "";
    bool measures = strcmp(name, "evaluate") == 0;
    return (struct report_place){.part = trial      ? number(trial, "ended")
                                         : fold     ? number(fold, "number")
                                         : measures ? 1e18
                                                    : -1,
                                 .epoch = report_ends_part(m) ? 1e18
                                          : measures          ? 1e17
                                                              : number(m, "epoch"),
                                 .step = number(m, "step")};
}

static bool told_already(const struct report *r, const cJSON *m)
{
    struct report_place p = place_of(m), f = r->floor;
    if (p.part != f.part) return p.part < f.part;
    return p.epoch < f.epoch || (p.epoch == f.epoch && p.step <= f.step);
}

void report_init(struct report *r, struct slot *slot, const struct run *run, const char *progress)
{
    cJSON *last = NULL;
    *r =
        (struct report){.slot = slot, .run = run, .event_credit = EVENTS_BURST, .credit_ms = clock_mono_ms()};
    report_restart(r);
    if (!progress || json_parse(&last, progress, strlen(progress), PLACE_TOKENS, NULL) != 0) return;
    r->floor = place_of(last);
    cJSON_Delete(last);
}

void report_restart(struct report *r)
{
    r->floor = (struct report_place){-2, -2, -2};
}

void report_dispose(struct report *r)
{
    mem_free(r->held);
    mem_free(r->held_event);
    cJSON_Delete(r->metrics);
    r->held = r->held_event = NULL;
    r->metrics = NULL;
}

static void replace(char **held, struct buf *json)
{
    mem_free(*held);
    *held = buf_steal(json);
    buf_dispose(json);
}

static bool take_credit(struct report *r, int64_t now_ms)
{
    r->event_credit += (double)(now_ms - r->credit_ms) * EVENTS_PER_S / 1000;
    if (r->event_credit > EVENTS_BURST) r->event_credit = EVENTS_BURST;
    r->credit_ms = now_ms;
    if (r->event_credit < 1) return false;
    r->event_credit -= 1;
    return true;
}

static void write_held(struct report *r, bool event)
{
    struct entry n = {.progress = r->held};
    if (event && r->held_event) {
        n.level = "info";
        n.type = "metrics";
        n.message = r->held_text;
        n.data = r->held_event;
    }
    if (!n.progress && !n.type) return;
    put(r, &n);
    r->progress_ms = clock_mono_ms();
    mem_free(r->held);
    r->held = NULL;
    if (!n.type) return;
    mem_free(r->held_event);
    r->held_event = NULL;
}

void report_due(struct report *r)
{
    int64_t now_ms = clock_mono_ms();
    bool event = r->held_event && take_credit(r, now_ms);
    if (event || (r->held && now_ms - r->progress_ms >= PROGRESS_EVERY_MS)) write_held(r, event);
}

void report_flush(struct report *r)
{
    write_held(r, true);
}

static void write_progress(struct json_writer *w, const cJSON *m, const cJSON *metrics)
{
    static const char *const counts[] = {"epoch", "epochs", "step", "steps"}, *const parts[] = {"trial",
                                                                                                "fold"};
    const cJSON *phase = cJSON_GetObjectItemCaseSensitive(m, "phase");
    double eta = number(m, "eta_seconds");
    jw_obj(w);
    if (cJSON_IsString(phase)) jw_kstr(w, "phase", phase->valuestring);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        double n = number(m, counts[i]);
        if (n >= 0 && n < 1e15) jw_kint(w, counts[i], (int64_t)n);
    }
    jw_name(w, "metrics");
    jw_node(w, metrics);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const cJSON *part = cJSON_GetObjectItemCaseSensitive(m, parts[i]);
        if (!cJSON_IsObject(part)) continue;
        jw_name(w, parts[i]);
        jw_node(w, part);
    }
    jw_name(w, "eta_seconds");
    if (eta >= 0) {
        jw_num(w, eta);
    } else {
        jw_null(w);
    }
    jw_obj_end(w);
}

/* For people; what is no count is 0. */
static long long count(const cJSON *o, const char *name)
{
    double n = number(o, name);
    return n >= 0 && n < 1e15 ? (long long)n : 0;
}

/* "epoch 2 of 9", of which trial or fold. */
static void name_epoch(struct report *r, const cJSON *m)
{
    static const char *const parts[] = {"trial", "fold"};
    char part[64] = "";
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const cJSON *which = cJSON_GetObjectItemCaseSensitive(m, parts[i]);
        if (cJSON_IsObject(which))
            snprintf(part, sizeof part, "%s %lld of %lld, ", parts[i], count(which, "number"),
                     count(which, "of"));
    }
    snprintf(r->held_text, sizeof r->held_text, "%sepoch %lld of %lld", part, count(m, "epoch"),
             count(m, "epochs"));
}

void report_progress(struct report *r, const cJSON *m)
{
    const cJSON *metrics = cJSON_GetObjectItemCaseSensitive(m, "metrics");
    if (!cJSON_IsObject(metrics) || told_already(r, m)) return;
    if (metrics->child) { /* a phase without metrics of its own must not wipe out what is known */
        cJSON_Delete(r->metrics);
        r->metrics = cJSON_Duplicate(metrics, true);
    }
    if (r->metrics) metrics = r->metrics;
    struct buf json = {0};
    struct json_writer w;
    jw_init(&w, &json);
    write_progress(&w, m, metrics);
    replace(&r->held, &json);
    if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(m, "epoch_end"))) {
        jw_init(&w, &json);
        write_progress(&w, m, metrics);
        replace(&r->held_event, &json);
        name_epoch(r, m);
    }
    report_due(r);
}

void report_message(struct report *r, const cJSON *m)
{
    const cJSON *level = cJSON_GetObjectItemCaseSensitive(m, "level");
    const cJSON *text = cJSON_GetObjectItemCaseSensitive(m, "message");
    if (!cJSON_IsString(level) || !cJSON_IsString(text) || strlen(text->valuestring) > TEXT_MAX) return;
    if (r->messages++ >= MESSAGES_MAX) return;
    bool warn = strcmp(level->valuestring, "warn") == 0;
    put(r, &(struct entry){.level = warn ? "warn" : "info", .type = "message", .message = text->valuestring});
}
