/* A run's checkpoints as its supervisor keeps them: out of the runner's memory files into encrypted blobs,
 * and into the job's row under the fence.
 *
 *   save_ask ─▶ runner writes ─▶ save_take: a thread encrypts ─▶ save_turn: the row        … and the next one
 *
 * The slot's thread calls everything here; the encrypting thread knows the file and the blob store only. A
 * runner that overwrites the file meanwhile, or cuts it, spoils its own checkpoint. Inside worker/ only. */
#ifndef WORKER_SUPERVISOR_SAVE_H
#define WORKER_SUPERVISOR_SAVE_H

#include <cjson/cJSON.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include "base/json.h"
#include "worker/supervisor_child.h"
#include "worker/supervisor_state.h"

/* A checkpoint on its way into a blob. */
struct save_work {
    pthread_t thread;
    bool started;
    atomic_bool done;
    int fd; /* borrowed */
    int64_t bytes;
    struct blob_store *blobs; /* borrowed, as the key */
    const struct blob_key *key;
    int wake_fd; /* written to when it is done */
    struct blob blob;
    int rc;
    struct err err;
};

struct save {
    struct slot *slot; /* all borrowed */
    const struct run *run;
    const struct order *order;
    struct child *child;
    int64_t due_ms;  /* when the next checkpoint is wanted */
    int64_t part_ms; /* when the end of a trial or fold may bring that forward */
    /* One was asked for. It is not asked for twice: while one file is read, the runner must have the other. A
     * run that has nothing to lay down yet answers late, one of a kind that cannot never. */
    bool awaited;
    struct mark mark; /* of the one that is being stored */
    struct save_work work;
    bool stale; /* Postgres said that the fence is old */
};

void save_init(struct save *s, struct slot *slot, const struct run *run, const struct order *order,
               struct child *child);
/* Fills the child's first file with the job's checkpoint; *bytes is 0 when there is none, or none that can be
 * read: then the job starts anew, and its row says so. */
void save_load(struct save *s, int64_t *bytes);
/* Asks for a checkpoint when one is due or `now`, and writes a stored one down. */
void save_turn(struct save *s, int64_t now_ms, bool now);
/* A trial or fold has ended: what it came to is worth a checkpoint soon. */
void save_part(struct save *s);
/* A message of type "checkpoint". ERR_*: it broke the protocol. */
int save_take(struct save *s, const cJSON *message, struct err *e);
/* The runner would not go on from the checkpoint: the job's row forgets it. */
void save_refused(struct save *s, const char *why);
/* The child is gone: what is still on its way is waited for, and written down unless the fence is old. */
void save_end(struct save *s);

/* The fields of a checkpoint in a message ("file", "bytes", …) but "type". */
int save_read_mark(struct mark *out, struct json_obj *o, struct err *e);
/* len bytes of the file into an encrypted blob. */
int save_blob(struct blob *out, struct blob_store *blobs, const struct blob_key *key, int fd, int64_t bytes,
              struct err *e);

#endif
