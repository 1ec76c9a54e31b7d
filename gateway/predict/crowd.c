/* Sheds load by the measured rate of answers, as CoDel drops packets: by standing queues, not by long ones.
 */
#include "gateway/predict/crowd.h"

#include <math.h>

static int bound_of(const struct crowd *c)
{
    return (int)fmax(1, fmin(c->per_ms * CROWD_TARGET_MS, 1e6));
}

static void close_window(struct crowd *c, int64_t now_ms)
{
    double rate = (double)c->answered / (double)(now_ms - c->since_ms);
    bool crowded = c->answered ? c->least_us > CROWD_LATE_MS * 1000 : c->late > 0;
    c->per_ms = c->per_ms > 0 ? (c->per_ms + rate) / 2 : rate;
    if (crowded)
        c->limit = bound_of(c);
    else if (c->limit && c->refused && c->least_us < CROWD_TARGET_MS * 1000)
        c->limit += c->limit / 8 + 1; /* little: its effect shows two windows later */
    else if (c->limit && !c->refused && c->least_us < CROWD_TARGET_MS * 1000 / 2)
        c->limit = 0;
    c->since_ms = 0;
}

static void look(struct crowd *c, int64_t now_ms)
{
    if (c->since_ms && now_ms - c->since_ms >= CROWD_WINDOW_MS) close_window(c, now_ms);
    if (c->since_ms) return;
    c->since_ms = now_ms;
    c->answered = c->late = c->refused = 0;
    c->least_us = INT64_MAX;
}

void crowd_answered(struct crowd *c, int64_t now_ms, int64_t took_us)
{
    look(c, now_ms);
    c->answered++;
    if (took_us < c->least_us) c->least_us = took_us;
}

void crowd_late(struct crowd *c, int64_t now_ms)
{
    look(c, now_ms);
    c->late++;
}

bool crowd_is_bound(const struct crowd *c)
{
    return c->limit > 0;
}

static int floor_of(int crowded)
{
    int share = CROWD_FLOOR / (crowded > 0 ? crowded : 1);
    return share > CROWD_FLOOR_MIN ? share : CROWD_FLOOR_MIN;
}

bool crowd_has_room(struct crowd *c, int in_flight, int crowded)
{
    if (!c->limit || in_flight < c->limit || in_flight < floor_of(crowded)) return true;
    c->refused++;
    return false;
}

int64_t crowd_wait_ms(const struct crowd *c, int in_flight)
{
    if (c->per_ms <= 0) return 1000;
    double ms = ceil((double)in_flight / c->per_ms);
    return ms < 1 ? 1 : (int64_t)fmin(ms, 60000);
}
