/* Feeders: a thread per dataset part that decrypts its blob into the pipe that the runner reads. Plain data
 * never touches a disk.
 *
 *   feed_start ─▶ reads and writes until the blob's end, or until nobody reads the pipe any more ─▶ feed_join
 */
#ifndef WORKER_SUPERVISOR_FEED_H
#define WORKER_SUPERVISOR_FEED_H

#include <pthread.h>
#include <stdbool.h>
#include "base/err.h"
#include "store/blob.h"

struct feed {
    pthread_t thread;
    bool started;
    int fd; /* owned: the pipe's write end */
    struct blob_store *blobs;
    const struct blob_key *key;
    const struct blob *blob;
    int rc;
    struct err err;
};

/* Makes a pipe; *read_fd is the caller's. blobs, key and blob are borrowed until feed_join. */
int feed_start(struct feed *f, int *read_fd, struct blob_store *blobs, const struct blob_key *key,
               const struct blob *blob, struct err *e);
/* Waits for the end; every read end must be closed by then, or the data read. 0, or why the blob could not be
 * read. A reader that left early is no error. A zeroed feed is fine. */
int feed_join(struct feed *f, struct err *e);

#endif
