/* Reads the kernel's clocks and writes wall time as text. */
#include "base/clock.h"

#include <stdio.h>
#include <time.h>

static int64_t read_ns(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t); /* cannot fail for the two clocks that are read here */
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t clock_mono_ns(void)
{
    return read_ns(CLOCK_MONOTONIC);
}

int64_t clock_mono_us(void)
{
    return read_ns(CLOCK_MONOTONIC) / 1000;
}

int64_t clock_mono_ms(void)
{
    return read_ns(CLOCK_MONOTONIC) / 1000000;
}

int64_t clock_coarse_ms(void)
{
    return read_ns(CLOCK_MONOTONIC_COARSE) / 1000000;
}

int64_t clock_wall_us(void)
{
    return read_ns(CLOCK_REALTIME) / 1000;
}

/* The parts of a UTC time, with ranges that fit their columns; microseconds go into *us. */
struct parts {
    unsigned year, month, day, hour, minute, second, weekday, us;
};

static struct parts split(int64_t wall_us)
{
    int64_t seconds = wall_us / 1000000, us = wall_us % 1000000;
    if (us < 0) {
        us += 1000000;
        seconds--;
    }
    time_t t = (time_t)seconds;
    struct tm tm = {0};
    gmtime_r(&t, &tm);
    return (struct parts){
        .year = ((unsigned)tm.tm_year + 1900u) % 10000u,
        .month = (unsigned)tm.tm_mon % 12u,
        .day = (unsigned)tm.tm_mday % 100u,
        .hour = (unsigned)tm.tm_hour % 100u,
        .minute = (unsigned)tm.tm_min % 100u,
        .second = (unsigned)tm.tm_sec % 100u,
        .weekday = (unsigned)tm.tm_wday % 7u,
        .us = (unsigned)us,
    };
}

void clock_rfc3339(char out[CLOCK_TEXT_MAX], int64_t wall_us)
{
    struct parts p = split(wall_us);
    snprintf(out, CLOCK_TEXT_MAX, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ", p.year, p.month + 1, p.day, p.hour,
             p.minute, p.second, p.us / 1000 % 1000u);
}

void clock_http_date(char out[CLOCK_TEXT_MAX], int64_t wall_us)
{
    /* Own names: strftime's follow the locale, RFC 9110's do not. */
    static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    struct parts p = split(wall_us);
    snprintf(out, CLOCK_TEXT_MAX, "%s, %02u %s %04u %02u:%02u:%02u GMT", days[p.weekday], p.day,
             months[p.month], p.year, p.hour, p.minute, p.second);
}
