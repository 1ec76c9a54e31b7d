/* Usage in buckets of an hour or a day, and a month's invoice. */
#include "gateway/routes/routes.h"

#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "store/invoice.h"
#include "store/usage.h"

enum { HOUR_S = 3600, DAY_S = 86400, HOURS_DEFAULT = 24, DAYS_DEFAULT = 31, BUCKETS_MAX = 744 };
static const int64_t TIME_MAX = (int64_t)1 << 40;

/* The span that is asked for, in whole buckets. */
struct span {
    int64_t start_s, end_s, bucket_s;
    bool has_more; /* end_s was drawn in to keep the page short */
};

static int read_width(struct api_call *c, int64_t *bucket_s, int64_t *limit, struct err *e)
{
    const char *width = request_query(c->request, "bucket_width");
    *bucket_s = DAY_S;
    *limit = DAYS_DEFAULT;
    if (width != NULL && strcmp(width, "1h") == 0) {
        *bucket_s = HOUR_S;
        *limit = HOURS_DEFAULT;
    } else if (width != NULL && strcmp(width, "1d") != 0) {
        return err_set(e, ERR_INVALID, "bucket_width", "bucket_width is 1h or 1d");
    }
    return api_query_int(c, "limit", 1, BUCKETS_MAX, limit, e);
}

static int read_span(struct api_call *c, struct span *s, struct err *e)
{
    int64_t limit, start = -1, end = clock_wall_us() / 1000000 + 1;
    int rc = read_width(c, &s->bucket_s, &limit, e);
    if (rc == 0) rc = api_query_int(c, "start_time", 0, TIME_MAX, &start, e);
    if (rc == 0) rc = api_query_int(c, "end_time", 1, TIME_MAX, &end, e);
    if (rc == 0)
        rc = api_query_int(c, "page", 0, TIME_MAX, &start, e); /* a page is where the last one ended */
    if (rc != 0) return rc;
    if (start < 0) start = end > limit * s->bucket_s ? end - (limit - 1) * s->bucket_s : 0;
    if (start >= end) return err_set(e, ERR_INVALID, "start_time", "start_time must be before end_time");
    s->start_s = start - start % s->bucket_s;
    s->end_s = (end + s->bucket_s - 1) / s->bucket_s * s->bucket_s;
    s->has_more = s->end_s - s->start_s > limit * s->bucket_s;
    if (s->has_more) s->end_s = s->start_s + limit * s->bucket_s;
    return 0;
}

static void result_write(struct json_writer *w, const struct usage_row *r)
{
    jw_obj(w);
    jw_kstr(w, "object", "usage.result");
    api_write_opt(w, "model", r->model);
    jw_name(w, "version");
    if (r->version > 0)
        jw_int(w, r->version);
    else
        jw_null(w);
    jw_kint(w, "requests", r->requests);
    jw_kint(w, "rows", r->rows);
    jw_kint(w, "compute_us", r->compute_us);
    jw_kint(w, "train_seconds", r->train_seconds);
    jw_kint_str(w, "amount_micros", r->amount_micros);
    jw_obj_end(w);
}

int usage_get(struct api_call *c, struct err *e)
{
    struct span s = {0};
    struct usage_report report = {0};
    int rc = read_span(c, &s, e);
    if (rc != 0) return rc;
    rc = api_begin(c, e);
    if (rc == 0) rc = usage_report(c->db, s.start_s, s.end_s, s.bucket_s, c->arena, &report, e);
    if ((rc = api_end(c, rc, e)) != 0) return rc;
    struct json_writer *w = api_reply(c, 200);
    jw_obj(w);
    jw_kstr(w, "object", "page");
    jw_name(w, "data");
    jw_arr(w);
    int i = 0;
    for (int64_t at = s.start_s; at < s.end_s; at += s.bucket_s) {
        jw_obj(w);
        jw_kstr(w, "object", "bucket");
        jw_kint(w, "start_time", at);
        jw_kint(w, "end_time", at + s.bucket_s);
        jw_name(w, "results");
        jw_arr(w);
        for (; i < report.n && report.items[i].bucket_start_s < at + s.bucket_s; i++)
            result_write(w, &report.items[i]);
        jw_arr_end(w);
        jw_obj_end(w);
    }
    jw_arr_end(w);
    jw_kbool(w, "has_more", s.has_more);
    if (s.has_more)
        jw_kint_str(w, "next_page", s.end_s);
    else
        jw_kstr(w, "next_page", NULL);
    jw_obj_end(w);
    return 0;
}

static void line_write(struct json_writer *w, const struct invoice_line *l)
{
    jw_obj(w);
    jw_kstr(w, "kind", l->kind);
    api_write_opt(w, "model", l->model);
    jw_kint(w, "quantity", l->quantity);
    jw_kstr(w, "unit", l->unit);
    jw_kint_str(w, "unit_price_micros", l->unit_price_micros);
    jw_kint_str(w, "amount_micros", l->amount_micros);
    jw_obj_end(w);
}

int invoices_get(struct api_call *c, struct err *e)
{
    struct invoice v;
    int rc = api_begin(c, e);
    if (rc == 0) rc = invoice_make(c->db, api_param(c, 0), c->arena, &v, e);
    if ((rc = api_end(c, rc, e)) != 0) return rc;
    struct json_writer *w = api_reply(c, 200);
    jw_obj(w);
    jw_kstr(w, "object", "invoice");
    jw_kstr(w, "month", v.month);
    jw_kstr(w, "currency", v.currency);
    jw_name(w, "lines");
    jw_arr(w);
    for (int i = 0; i < v.n_lines; i++) line_write(w, &v.lines[i]);
    jw_arr_end(w);
    jw_kint_str(w, "total_micros", v.total_micros);
    jw_obj_end(w);
    return 0;
}
