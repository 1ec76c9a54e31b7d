/* The feeder thread: blob chunks in, pipe out. */
#include "worker/supervisor_feed.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include "base/fs.h"
#include "base/mem.h"

enum { PIPE_BYTES = 1 << 20 };

static int pour(struct feed *f, struct blob_reader *reader, char *chunk)
{
    for (;;) {
        size_t got = 0;
        int rc = blob_reader_read(reader, chunk, BLOB_CHUNK_BYTES, &got, &f->err);
        if (rc != 0 || got == 0) return rc;
        for (size_t done = 0; done < got;) {
            ssize_t n = write(f->fd, chunk + done, got - done);
            if (n < 0 && errno == EINTR) continue;
            if (n < 0 && errno == EPIPE) return 0; /* the runner has what it wanted, or is dead */
            if (n < 0) return err_errno(&f->err, ERR_IO, "feed the runner");
            done += (size_t)n;
        }
    }
}

static void *feed(void *arg)
{
    struct feed *f = arg;
    struct blob_reader *reader = NULL;
    char *chunk = mem_try_alloc(1, BLOB_CHUNK_BYTES);
    f->rc = chunk ? blob_reader_open(&reader, f->blobs, f->key, f->blob, &f->err)
                  : err_set(&f->err, ERR_NOMEM, NULL, "no memory to feed the runner");
    if (f->rc == 0) f->rc = pour(f, reader, chunk);
    if (reader) blob_reader_free(reader);
    mem_free(chunk);
    close(f->fd); /* the end of the data, for better or worse: the supervisor looks at rc */
    return NULL;
}

int feed_start(struct feed *f, int *read_fd, struct blob_store *blobs, const struct blob_key *key,
               const struct blob *blob, struct err *e)
{
    int fds[2];
    int rc = fs_cloexec_pipe(fds, e);
    if (rc != 0) return rc;
    /* A bigger pipe wakes both sides less often; a refusal costs speed only. */
    (void)fcntl(fds[1], F_SETPIPE_SZ, PIPE_BYTES);
    *f = (struct feed){.fd = fds[1], .blobs = blobs, .key = key, .blob = blob};
    if (pthread_create(&f->thread, NULL, feed, f) != 0) {
        close(fds[0]);
        close(fds[1]);
        return err_set(e, ERR_NOMEM, NULL, "the thread that feeds the runner could not be started");
    }
    f->started = true;
    *read_fd = fds[0];
    return 0;
}

int feed_join(struct feed *f, struct err *e)
{
    if (!f->started) return 0;
    pthread_join(f->thread, NULL);
    f->started = false;
    if (f->rc != 0 && e) *e = f->err;
    return f->rc;
}
