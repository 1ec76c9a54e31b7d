/* Carries plans out: cuts a step's rows into shards, has the team compute them, and joins what they found.
 *
 *     run_step:  every member: its weights packed ▸ meet ▸ shard forward and backward ▸ meet ▸ its chunks of
 * the gradients summed and spent (where norms clip, they meet once more between the two)
 *
 * Members write their own shard, their own outcome, their own rows of the outputs and their own chunks; what
 * the caller sets up before a piece of work is read by all. */
#include "tensor/run.h"

#include <string.h>
#include "base/mem.h"
#include "tensor/flush.h"
#include "tensor/graph_impl.h"
#include "tensor/place.h"
#include "tensor/plan_impl.h"
#include "tensor/shard.h"
#include "tensor/team.h"

/* What a member found. */
struct outcome {
    int rc;
    int64_t first; /* of the rows that failed */
    double loss;
    struct err err;
};

enum { DO_GRADIENTS = 1, DO_UPDATE = 2 };

struct run {
    const struct plan *plan; /* borrowed */
    struct params *params;   /* borrowed; NULL in inference */
    float *packed;           /* owned: the weights of a step, packed; NULL where the plan packs none */
    struct team *team;       /* owned, so are the others; NULL with one thread */
    struct shard *shard;     /* one per thread */
    struct outcome *outcome; /* one per thread */
    int n_shards;
    struct optim *optim;          /* training only */
    struct view *output;          /* of all rows, where a shard has some of them only */
    unsigned char *output_memory; /* theirs */
    bool gathered;                /* the last results are there */
    struct optim_grads grads;     /* of the last step */
    /* The piece of work in hand. */
    const struct step *step;
    int64_t rows, step_rows; /* step_rows: those that the outputs are of */
    int active;              /* shards that have rows */
    int what;
    run_part part;
    void *ctx;
};

/* ---- life ---- */

static size_t output_bytes(const struct plan *p, int i)
{
    const struct value *v = plan_output(p, i);
    size_t rows = shape_batched(&v->shape) ? (size_t)p->options.max_batch : 1;
    size_t bytes = rows * shape_row_count(&v->shape) * dtype_bytes(v->dtype);
    return (bytes + PLACE_ALIGN - 1) & ~(size_t)(PLACE_ALIGN - 1);
}

int plan__output_bytes(const struct plan *p, size_t *out, struct err *e)
{
    *out = 0;
    for (int i = 0; p->part_rows < p->options.max_batch && i < plan_output_count(p); i++) {
        size_t n;
        const struct value *v = plan_output(p, i);
        if (!shape_count(&v->shape, p->options.max_batch, &n) || !mem_add(*out, output_bytes(p, i), out))
            return err_set(e, ERR_TOO_LARGE, v->name, "'%s' with %lld rows is larger than any memory",
                           v->name, (long long)p->options.max_batch);
    }
    return 0;
}

static int create_outputs(struct run *r, struct err *e)
{
    const struct plan *p = r->plan;
    size_t bytes, at = 0;
    int rc = plan__output_bytes(p, &bytes, e);
    if (rc || p->part_rows == p->options.max_batch) return rc;
    r->output = mem_try_alloc((size_t)plan_output_count(p) + 1, sizeof *r->output);
    r->output_memory = mem_try_aligned(PLACE_ALIGN, bytes + PLACE_ALIGN);
    if (!r->output || !r->output_memory) return err_set(e, ERR_NOMEM, NULL, "no memory for the outputs");
    for (int i = 0; i < plan_output_count(p); i++) {
        r->output[i] = (struct view){.dtype = plan_output(p, i)->dtype, .data = r->output_memory + at};
        at += output_bytes(p, i);
    }
    return 0;
}

static int create_parts(struct run *r, struct err *e)
{
    const struct plan *p = r->plan;
    int n = p->threads, rc = 0;
    r->shard = mem_try_alloc((size_t)n, sizeof *r->shard);
    r->outcome = mem_try_alloc((size_t)n, sizeof *r->outcome);
    if (!r->shard || !r->outcome) return err_set(e, ERR_NOMEM, NULL, "no memory for the run");
    if (r->params && p->weights_len > 0 &&
        !(r->packed = mem_try_aligned(PLACE_ALIGN, (p->weights_len + 16) * sizeof(float))))
        return err_set(e, ERR_NOMEM, NULL, "no memory for the run");
    for (; r->n_shards < n && rc == 0; r->n_shards++)
        rc = shard_init(&r->shard[r->n_shards], p, r->params, r->packed ? r->packed : p->weights, e);
    r->grads.mark_at = p->mark_at;
    for (int i = 0; i < n; i++) {
        r->grads.part[i] = r->shard[i].grads;
        r->grads.mark[i] = r->shard[i].marks;
    }
    if (rc == 0) rc = create_outputs(r, e);
    if (rc == 0 && r->params) rc = optim_create(&r->optim, &p->options.optim, p->backend, r->params, e);
    if (rc == 0 && n > 1) rc = team_create(&r->team, n, e);
    return rc;
}

int run_create(struct run **out, const struct plan *plan, struct params *params, struct err *e)
{
    bool train = plan->options.mode == PLAN_TRAIN;
    if (train != (params != NULL) || (train && !params_same_layout(plan->layout, params)))
        return err_set(e, ERR_INVALID, "params", "these weights do not belong to the graph of this plan");
    if (!train && !plan->weights)
        return err_set(e, ERR_INVALID, "params", "the plan has no weights yet; load them first");
    struct run *r = mem_try_alloc(1, sizeof *r);
    if (!r) return err_set(e, ERR_NOMEM, NULL, "no memory for the run");
    r->plan = plan;
    r->params = params;
    int rc = create_parts(r, e);
    if (rc)
        run_free(r);
    else
        *out = r;
    return rc;
}

void run_free(struct run *r)
{
    if (!r) return;
    team_free(r->team);
    for (int i = 0; i < r->n_shards; i++) shard_dispose(&r->shard[i]);
    optim_free(r->optim);
    mem_free(r->shard);
    mem_free(r->outcome);
    mem_free(r->output);
    mem_free(r->output_memory);
    mem_free(r->packed);
    mem_free(r);
}

/* ---- shares ---- */

/* Cuts rows as evenly as can be into as few shards as can hold them: the same for the same plan and rows. */
static void divide(struct run *r, int64_t rows)
{
    r->rows = rows;
    r->active = (int)((rows + r->plan->shard_rows - 1) / r->plan->shard_rows);
}

static int64_t first_row(const struct run *r, int member)
{
    return r->rows * member / r->active;
}

/* In how many parts a shard of so many rows is computed, as even as can be. */
static int64_t parts_of(const struct run *r, int64_t rows)
{
    return (rows + r->plan->part_rows - 1) / r->plan->part_rows;
}

static int check_rows(const struct run *r, int64_t rows, struct err *e)
{
    if (rows >= 1 && rows <= r->plan->options.max_batch) return 0;
    return err_set(e, ERR_INVALID, "rows", "%lld rows; this plan takes 1 to %lld", (long long)rows,
                   (long long)r->plan->options.max_batch);
}

static void carry_out(struct run *r, team_work work)
{
    if (r->team)
        team_run(r->team, work, r);
    else
        work(r, 0);
}

static void meet(struct run *r)
{
    if (r->team) team_meet(r->team);
}

/* The first shard that failed, which has the first rows that failed; or -1. */
static int first_failure(const struct run *r)
{
    for (int i = 0; i < r->active; i++)
        if (r->outcome[i].rc) return i;
    return -1;
}

static int tell_failure(const struct run *r, struct err *e)
{
    int i = first_failure(r);
    if (i >= 0 && e) *e = r->outcome[i].err;
    return i >= 0 ? r->outcome[i].rc : 0;
}

static void share_work(void *ctx, int member)
{
    struct run *r = ctx;
    struct outcome *o = &r->outcome[member];
    if (member >= r->active) return;
    int64_t first = first_row(r, member);
    o->rc = r->part(r->ctx, first, first_row(r, member + 1) - first, &o->err);
}

int run_share(struct run *r, int64_t rows, run_part part, void *ctx, struct err *e)
{
    int rc = check_rows(r, rows, e);
    if (rc) return rc;
    divide(r, rows);
    r->part = part;
    r->ctx = ctx;
    carry_out(r, share_work);
    return tell_failure(r, e);
}

int run_threads(const struct run *r)
{
    return r->n_shards;
}

/* ---- training ---- */

static void copy_outputs(struct run *r, const struct shard *s)
{
    for (int i = 0; i < plan_output_count(r->plan); i++) {
        const struct value *v = plan_output(r->plan, i);
        const struct view *from = &s->view[graph_output_value(r->plan->graph, i)];
        bool has_rows = shape_batched(&v->shape);
        size_t each = shape_row_count(&v->shape) * dtype_bytes(v->dtype);
        if (!has_rows && s->first > 0) continue;
        memcpy((unsigned char *)r->output[i].data + (has_rows ? (size_t)s->first * each : 0), from->data,
               (has_rows ? (size_t)s->rows : 1) * each);
    }
}

/* Each member packs some of the weights, for all of them. */
static void pack_weights(struct run *r, int member)
{
    const struct plan *p = r->plan;
    for (int i = 0, turn = 0; i < p->graph->n_nodes; i++)
        if (p->node[i].packed && turn++ % r->n_shards == member) plan__pack(p, i, r->params->data, r->packed);
    meet(r);
}

static void compute_shard(struct run *r, int member)
{
    struct shard *s = &r->shard[member];
    struct outcome *o = &r->outcome[member];
    int64_t begin = first_row(r, member), rows = first_row(r, member + 1) - begin;
    int64_t parts = parts_of(r, rows);
    o->loss = 0;
    shard_seed(s, r->step->seed, r->step->index);
    for (int64_t i = 0; i < parts && o->rc == 0; i++) {
        int64_t first = rows * i / parts, n = rows * (i + 1) / parts - first;
        double share = (double)n / (double)rows;
        o->first = begin + first;
        shard_aim(s, r->step->feeds, o->first, n);
        shard_part(s, share, i > 0);
        if ((o->rc = shard_execute(s, &o->err))) break;
        o->loss += share * (double)*(const float *)s->view[r->plan->graph->loss].data;
        if (r->output) copy_outputs(r, s);
    }
}

static void update_weights(struct run *r, const struct optim_turn *t)
{
    if (!optim_needs_norms(r->optim)) {
        optim_gather_and_move(r->optim, &r->grads, t);
        return;
    }
    optim_gather(r->optim, &r->grads, t);
    meet(r);
    optim_move(r->optim, &r->grads, t);
}

static void train_work(void *ctx, int member)
{
    struct run *r = ctx;
    struct optim_turn t = {
        .member = member, .members = r->n_shards, .step = r->step->index, .rate = r->step->rate};
    uint64_t before = flush_begin();
    bool sound = true;
    if (r->what & DO_GRADIENTS) {
        if (r->packed) pack_weights(r, member);
        if (member < r->active) compute_shard(r, member);
        meet(r);
        sound = first_failure(r) < 0;
    }
    if (sound && r->what & DO_UPDATE)
        update_weights(r, &t);
    else if (sound)
        optim_mean(r->optim, &r->grads, &t);
    flush_end(before);
}

static int train(struct run *r, const struct step *s, int what, float *loss, struct err *e)
{
    if (r->plan->options.mode != PLAN_TRAIN)
        return err_set(e, ERR_INVALID, "mode", "this plan was compiled for inference");
    int rc = check_rows(r, s->rows, e);
    if (rc) return rc;
    divide(r, s->rows);
    r->step = s;
    r->what = what;
    r->grads.n = r->active;
    for (int i = 0; i < r->active; i++) {
        r->outcome[i].rc = 0;
        r->grads.weight[i] = (float)((double)(first_row(r, i + 1) - first_row(r, i)) / (double)s->rows);
    }
    carry_out(r, train_work);
    if ((rc = tell_failure(r, e))) {
        int64_t first = r->outcome[first_failure(r)].first;
        if (first > 0 && e) err_prefix(e, "in the rows from %lld of the batch", (long long)first);
        return rc;
    }
    r->step_rows = s->rows;
    r->gathered = r->output != NULL;
    double sum = 0;
    for (int i = 0; i < r->active; i++) sum += (double)r->grads.weight[i] * r->outcome[i].loss;
    *loss = (float)sum;
    return 0;
}

int run_gradients(struct run *r, const struct step *s, float *loss, struct err *e)
{
    return train(r, s, DO_GRADIENTS, loss, e);
}

/* State is kept by operators that need the whole batch, and so by one shard alone. */
int run_step(struct run *r, const struct step *s, float *loss, struct err *e)
{
    int rc = train(r, s, DO_GRADIENTS | DO_UPDATE, loss, e);
    if (rc == 0) shard_keep(&r->shard[0]);
    return rc;
}

void run_update(struct run *r, const struct step *s)
{
    r->step = s;
    r->what = DO_UPDATE;
    r->grads.n = 1;
    carry_out(r, train_work);
    shard_keep(&r->shard[0]);
}

/* ---- inference ---- */

int run_forward(struct run *r, const void *const *feeds, int64_t rows, struct err *e)
{
    int rc = check_rows(r, rows, e);
    if (rc) return rc;
    struct shard *s = &r->shard[0];
    int64_t parts = parts_of(r, rows);
    r->step_rows = rows;
    r->gathered = parts > 1;
    for (int64_t i = 0; i < parts && rc == 0; i++) {
        int64_t first = rows * i / parts;
        shard_aim(s, feeds, first, rows * (i + 1) / parts - first);
        rc = shard_execute(s, e);
        if (rc == 0 && parts > 1) copy_outputs(r, s);
    }
    return rc;
}

/* ---- what is there to see ---- */

struct view run_output(const struct run *r, int index)
{
    int value = graph_output_value(r->plan->graph, index);
    if (!r->gathered) return r->shard[0].view[value];
    struct view v = r->output[index];
    v.shape = shape_with_batch(&r->plan->graph->value[value].shape, r->step_rows);
    return v;
}

float *run_grads(struct run *r)
{
    return r->grads.part[0];
}

int run_slot_count(const struct run *r)
{
    return r->plan->options.mode == PLAN_TRAIN ? optim_slots(r->plan->options.optim.kind) : 0;
}

const char *run_slot_name(const struct run *r, int slot)
{
    return optim_slot_name(r->plan->options.optim.kind, slot);
}

float *run_slot(struct run *r, int slot)
{
    return optim_slot(r->optim, slot);
}

double run_grad_norm(const struct run *r)
{
    return optim_norm(r->optim);
}
