/* Paces a run's questions and reports by the monotonic clock. */
#include "learn/watch.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"

static const int64_t QUESTION_NS = 5000000; /* 5 ms */
static const int64_t REPORT_NS = 250000000; /* 4 a second */

void watch_init(struct watch *w, const struct train_callbacks *callbacks, double seconds, double used_seconds)
{
    *w = (struct watch){.callbacks = callbacks, .seconds = seconds};
    int64_t now = clock_mono_ns();
    double left = seconds > used_seconds ? seconds - used_seconds : 0;
    if (seconds > 0) w->deadline_ns = now + (int64_t)(left < 1e9 ? left * 1e9 : 1e18);
    w->next_report_ns = now;
}

int watch_check(struct watch *w, struct err *e)
{
    int64_t now = clock_mono_ns();
    if (w->deadline_ns && now >= w->deadline_ns)
        return err_set(e, ERR_TIMEOUT, "max_seconds", "the run took longer than its limit of %g seconds",
                       w->seconds);
    if (now < w->next_question_ns) return 0;
    w->next_question_ns = now + QUESTION_NS;
    const struct train_callbacks *c = w->callbacks;
    return c->cancelled && c->cancelled(c->ctx) ? err_set(e, ERR_CANCELLED, NULL, "the job was cancelled")
                                                : 0;
}

bool watch_save_due(const struct watch *w)
{
    return w->callbacks->save_due && w->callbacks->save_due(w->callbacks->ctx);
}

int watch_save_to(const struct watch *w)
{
    return w->callbacks->save_to ? w->callbacks->save_to(w->callbacks->ctx) : -1;
}

void watch_saved(const struct watch *w, const struct train_mark *mark)
{
    if (w->callbacks->saved) w->callbacks->saved(w->callbacks->ctx, mark);
}

void watch_refused(const struct watch *w, const char *why)
{
    if (w->callbacks->refused) w->callbacks->refused(w->callbacks->ctx, why);
}

bool watch_may_report(struct watch *w)
{
    int64_t now = clock_mono_ns();
    if (now < w->next_report_ns) return false;
    w->next_report_ns = now + REPORT_NS;
    return true;
}

void watch_report(struct watch *w, const struct train_progress *p)
{
    if (w->callbacks->progress) w->callbacks->progress(w->callbacks->ctx, p);
}

void watch_message(struct watch *w, const char *level, const char *fmt, ...)
{
    char text[512];
    va_list args;
    if (!w->callbacks->message) return;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    w->callbacks->message(w->callbacks->ctx, level, text);
}
