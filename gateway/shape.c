/* The table of body shapes and writing it as JSON Schema. */
#include "gateway/shape.h"

#include <stdio.h>
#include <string.h>

const struct shape shape_table[] = {
    {"Error", "what every refused request gets", {{"error", "ErrorBody", true, "the reason"}}},
    {"ErrorBody",
     "why a request was refused",
     {{"message", "string", true, "what was wrong, where, what was expected, what to do"},
      {"type", "string", true, "the family of the error, such as invalid_request_error"},
      {"param", "string?", true, "the field or parameter at fault"},
      {"code", "string?", true, "the error's name for programs, such as not_found"}}},
    {"PlainError", "an error of the inference protocols", {{"error", "string", true, "what was wrong"}}},
    {"Dataset",
     "uploaded data and the schema found in it",
     {{"id", "string", true, "ds_…"},
      {"object", "string", true, "dataset"},
      {"name", "string", true, "the tenant's name for it"},
      {"format", "string", true, "csv, idx or npy"},
      {"status", "string", true, "ready"},
      {"rows", "integer", true, "number of rows"},
      {"bytes", "integer", true, "size as uploaded"},
      {"columns", "[Column]", true, "what the rows hold"},
      {"created_at", "integer", true, "Unix seconds"}}},
    {"Column",
     "one column of a dataset",
     {{"name", "string", true, "from the header, or features and labels"},
      {"type", "string", true, "number, category or tensor"},
      {"dtype", "string", false, "element type of a tensor"},
      {"shape", "[integer]", false, "shape of one row's tensor"},
      {"missing", "integer", false, "empty cells"},
      {"min", "number?", false, "least value"},
      {"max", "number?", false, "greatest value"},
      {"mean", "number?", false, "mean value"},
      {"std", "number?", false, "standard deviation"},
      {"categories", "[string]", false, "the distinct values"}}},
    {"DatasetUpload",
     "a multipart/form-data upload; or send the file itself as the body, with name and format in the query",
     {{"name", "string", true, "1–64 characters of a-z 0-9 . _ -"},
      {"format", "string", false, "csv, idx or npy; told from the first bytes when absent"},
      {"file", "string", false, "a CSV table, or one tensor"},
      {"features", "string", false, "the features' tensor (IDX or npy, may be gzipped)"},
      {"labels", "string", false, "the labels' tensor (IDX or npy, may be gzipped)"}}},
    {"JobRequest",
     "a job to run",
     {{"type", "string", true, "train, tune or evaluate"},
      {"model", "string", true,
       "the model that gets the new version, made when there is none; of an evaluate job the model that is "
       "scored"},
      {"dataset", "string", true, "ds_…: the data to learn from"},
      {"test_dataset", "string", false, "ds_…: held-out data for the metrics"},
      {"priority", "integer", false, "-10 to 10, greater first, among your own jobs; default 0"},
      {"max_seconds", "integer", false, "time limit; default an hour, or less if the plan allows less"},
      {"threads", "integer", false, "of the training, each a slot that is paid for; default 1"},
      {"spec", "object", false, "what to train, to search or to measure; see docs/spec.md"}}},
    {"Job",
     "a job and where it stands",
     {{"id", "string", true, "job_…"},
      {"object", "string", true, "job"},
      {"type", "string", true, "train, tune, evaluate or predict"},
      {"status", "string", true, "queued, running, retry_wait, succeeded, failed, cancelled or dead"},
      {"cancel_requested", "boolean", true, "somebody asked for it to stop"},
      {"model", "string", true, "the model that gets the version"},
      {"dataset", "string?", true, "ds_…; null of a predict job"},
      {"test_dataset", "string?", true, "ds_…"},
      {"waiting_reason", "string", false,
       "GET /v1/jobs/{id}, of a queued job: what no worker has for it now"},
      {"evaluated_version_id", "string", false, "ver_…, that an evaluate job scores"},
      {"version_id", "string", false, "ver_…, that a predict job asks"},
      {"estimate", "object", true, "seconds, memory_bytes and cost_micros, as computed at submission"},
      {"priority", "integer", true, "among your own jobs"},
      {"max_seconds", "integer", true, "time limit"},
      {"threads", "integer", true, "of the training"},
      {"created_at", "integer", true, "Unix seconds"},
      {"started_at", "integer?", true, "Unix seconds"},
      {"finished_at", "integer?", true, "Unix seconds"},
      {"attempt", "integer", true, "how often it was started"},
      {"crashes", "integer", true, "how often it, or its host, died"},
      {"progress", "object?", true, "the newest progress report"},
      {"result", "JobResult?", true, "what a succeeded job made"},
      {"error", "JobError?", true, "why a job failed"},
      {"hold_micros", "string", true, "money set aside for it, in millionths"},
      {"cost_micros", "string", true, "money charged, in millionths"}}},
    {"JobResult",
     "what a succeeded job made",
     {{"version", "integer?", true, "the version's number; null of an evaluate job, which makes none"},
      {"version_id", "string?", true, "ver_…"},
      {"metrics", "object", true, "the final metrics"}}},
    {"JobError",
     "why a job failed",
     {{"code", "string", true, "the error's name for programs"},
      {"message", "string", true, "what was wrong"},
      {"param", "string?", true, "the field at fault"}}},
    {"JobEvent",
     "something that happened to a job",
     {{"id", "string", true, "evt_…"},
      {"object", "string", true, "job.event"},
      {"created_at", "integer", true, "Unix seconds"},
      {"level", "string", true, "info, warn or error"},
      {"type", "string", true, "status, metrics or message"},
      {"message", "string", true, "one line"},
      {"data", "object?", true, "numbers that go with it"}}},
    {"Model",
     "a name with versions and aliases",
     {{"id", "string", true, "mdl_…"},
      {"object", "string", true, "model"},
      {"name", "string", true, "the tenant's name for it"},
      {"created_at", "integer", true, "Unix seconds"},
      {"latest_version", "integer?", true, "the newest version's number"},
      {"aliases", "object", true, "alias → version number"},
      {"batching", "ModelBatching", true, "how its calls are put together"},
      {"version_policy", "VersionPolicy", true, "which versions are served"},
      {"etag", "string", true, "changes with each change of these two: for If-Match"},
      {"model_version_status", "[VersionStatus]", false,
       "TensorFlow Serving's view; on single models only"}}},
    {"ModelSettings",
     "changes to a model; what is absent stays, null is the default",
     {{"batching", "ModelBatching?", false, "how its calls are put together"},
      {"version_policy", "VersionPolicy?", false, "which versions are served; default all"}}},
    {"ModelBatching",
     "how a worker puts a model's calls together",
     {{"max_batch_rows", "integer?", false, "1 to 4096; null: as many as a worker computes at once"},
      {"max_queue_delay_us", "integer?", false,
       "0 to 100000: how long a call may wait for company; null: not at all"}}},
    {"VersionPolicy",
     "exactly one of these; what an alias points at is served whatever it says",
     {{"all", "object", false, "every version"},
      {"latest", "VersionsLatest", false, "the newest ones"},
      {"specific", "VersionsSpecific", false, "those that are named"}}},
    {"VersionsLatest", "the newest versions", {{"num_versions", "integer", true, "how many, at least 1"}}},
    {"VersionsSpecific", "named versions", {{"versions", "[integer]", true, "1 to 100 numbers"}}},
    {"VersionStatus",
     "TensorFlow Serving's view of a version",
     {{"version", "string", true, "the number"},
      {"state", "string", true, "AVAILABLE, or END when the model's version policy leaves it out"},
      {"status", "object", true, "error_code and error_message"}}},
    {"ModelVersion",
     "an immutable trained version",
     {{"id", "string", true, "ver_…"},
      {"object", "string", true, "model.version"},
      {"model", "string", true, "the model's name"},
      {"version", "integer", true, "its number, from 1"},
      {"status", "string", true, "ready"},
      {"served", "boolean", true, "whether it answers calls: by the model's version policy, or by an alias"},
      {"bytes", "integer", true, "size of the artifact"},
      {"sha256", "string", true, "hash of the artifact"},
      {"metrics", "object?", true, "as measured at the end of training"},
      {"signature", "object?", true,
       "named inputs and outputs: name, datatype, shape; of a classifier's probabilities the classes too"},
      {"job", "string?", true, "job_… that made it"},
      {"created_at", "integer", true, "Unix seconds"},
      {"model_version_status", "[VersionStatus]", false,
       "TensorFlow Serving's view; on single versions only"}}},
    {"AliasRequest",
     "where an alias shall point",
     {{"version", "integer", true, "a version's number"},
      {"canary", "AliasCanary?", false, "another version that gets a share of the calls"},
      {"shadow", "AliasShadow?", false, "another version that is called too, and only compared"},
      {"rollback_on", "AliasLimits?", false, "when a version on trial is taken back"},
      {"warm", "boolean", false,
       "whether a worker is to hold its versions before it moves, which is waited for; default true"}}},
    {"AliasCanary",
     "a version on trial behind an alias",
     {{"version", "integer", true, "a version's number"},
      {"weight", "number", true, "its share of the calls: above 0, below 1"}}},
    {"AliasShadow",
     "a version that answers copies of an alias's calls, unseen",
     {{"version", "integer", true, "a version's number"},
      {"weight", "number", true, "the share of the calls that it gets too: above 0, at most 1"},
      {"tolerance", "number", false, "numbers that differ by more are different; default 0.001"}}},
    {"AliasLimits",
     "when a version on trial is taken back; at least one of the first three",
     {{"error_rate", "number", false, "more failed calls than this share"},
      {"latency_ms", "number", false, "a 99th percentile above this"},
      {"disagreement", "number", false, "more answers of the shadow that differ than this share"},
      {"min_requests", "integer", false, "fewer in the window say nothing; default 100"},
      {"window_seconds", "integer", false, "the span of time that is looked at; default 60"}}},
    {"AliasRollback",
     "how a trial ended",
     {{"time", "integer", true, "Unix seconds"},
      {"reason", "string", true, "error_rate, latency, disagreement or requested"},
      {"arm", "string", true, "canary, shadow or primary: what was taken back"},
      {"version", "integer", true, "the version that was taken back"},
      {"message", "string", true, "the numbers, in words"}}},
    {"Rollout",
     "what was seen of an alias's versions since it was last changed",
     {{"object", "string", true, "model.rollout"},
      {"model", "string", true, "the model's name"},
      {"alias", "string", true, "live, for one"},
      {"etag", "string", true, "the alias's"},
      {"since", "integer", true, "Unix seconds"},
      {"counted", "boolean", true, "false without canary, shadow and limits: then nothing is counted"},
      {"arms", "[RolloutArm]", true, "primary, canary, shadow, as far as there are any"},
      {"last_rollback", "AliasRollback?", true, "how the last trial ended"}}},
    {"RolloutArm",
     "what was seen of one version; the last four of a shadow only",
     {{"arm", "string", true, "primary, canary or shadow"},
      {"version", "integer", true, "the version's number"},
      {"requests", "integer", true, "answered and failed calls; a client's mistakes are not counted"},
      {"errors", "integer", true, "of these: failed or timed out"},
      {"latency_p50_ms", "number?", true, "from the sending to a worker to its answer"},
      {"latency_p99_ms", "number?", true, "the same, of the slowest hundredth"},
      {"skipped", "integer", false, "copies that were due and not sent: busy, or not loaded"},
      {"compared", "integer", false, "answers set beside the primary's"},
      {"disagreements", "integer", false, "of these: different"},
      {"largest_difference", "number", false, "of two numbers in them"}}},
    {"Alias",
     "a movable name of a version",
     {{"object", "string", true, "model.alias"},
      {"alias", "string", true, "live, for one"},
      {"model", "string", true, "the model's name"},
      {"version", "integer", true, "the version's number"},
      {"previous_version", "integer?", true, "what a rollback goes back to"},
      {"canary", "AliasCanary?", true, "the version on trial"},
      {"shadow", "AliasShadow?", true, "the version that is compared"},
      {"rollback_on", "AliasLimits?", true, "when a version on trial is taken back"},
      {"last_rollback", "AliasRollback?", true, "how the last trial ended"},
      {"etag", "string", true, "changes with each move: for If-Match"},
      {"warmed", "boolean", false, "in the answer to a move: whether a worker held its versions before"},
      {"updated_at", "integer", true, "Unix seconds"}}},
    {"UsageBucket",
     "usage within a span of time",
     {{"object", "string", true, "bucket"},
      {"start_time", "integer", true, "Unix seconds"},
      {"end_time", "integer", true, "Unix seconds, exclusive"},
      {"results", "[UsageResult]", true, "by model and version"}}},
    {"UsageResult",
     "usage of one model",
     {{"model", "string?", true, "the model's name"},
      {"version", "integer?", true, "null for training"},
      {"object", "string", true, "usage.result"},
      {"requests", "integer", true, "predict requests answered"},
      {"rows", "integer", true, "rows predicted"},
      {"compute_us", "integer", true, "microseconds of predict time"},
      {"train_seconds", "integer", true, "seconds of training"},
      {"amount_micros", "string", true, "money in millionths"}}},
    {"UsagePage",
     "buckets, oldest first",
     {{"object", "string", true, "page"},
      {"data", "[UsageBucket]", true, "the buckets"},
      {"has_more", "boolean", true, "whether next_page leads on"},
      {"next_page", "string?", true, "what to send as page for the rest"}}},
    {"Invoice",
     "a month's charges",
     {{"object", "string", true, "invoice"},
      {"month", "string", true, "YYYY-MM"},
      {"currency", "string", true, "ISO 4217"},
      {"lines", "[InvoiceLine]", true, "what was charged"},
      {"total_micros", "string", true, "the sum of the lines, in millionths"}}},
    {"InvoiceLine",
     "one kind of charge",
     {{"kind", "string", true, "train or predict"},
      {"model", "string?", true, "the model's name"},
      {"quantity", "integer", true, "seconds or rows"},
      {"unit", "string", true, "second or 1000 rows: what the price is for"},
      {"unit_price_micros", "string", true, "millionths a unit"},
      {"amount_micros", "string", true, "millionths"}}},
    {"AuditEntry",
     "something that somebody did",
     {{"id", "string", true, "aud_…"},
      {"object", "string", true, "audit.entry"},
      {"seq", "integer?", true, "place in the chain; null until sealed"},
      {"effective_at", "integer", true, "Unix seconds"},
      {"type", "string", true, "job.created, for one"},
      {"actor", "object", true, "type and id"},
      {"object_id", "string?", true, "what it was done to"},
      {"data", "object?", true, "particulars"},
      {"hash", "string?", true, "chained SHA-256; null until sealed"}}},
    {"AuditVerification",
     "whether the chain holds",
     {{"object", "string", true, "audit.verification"},
      {"verified", "boolean", true, "false when a row was changed"},
      {"rows", "integer", true, "sealed rows that were checked"},
      {"unsealed", "integer", true, "rows that wait for the sealer"},
      {"first_bad", "string?", true, "id of the first row that does not fit"},
      {"first_bad_seq", "integer?", true, "its place in the chain"},
      {"reason", "string?", true, "what does not fit"}}},
    {"KeyRequest",
     "a key to make",
     {{"name", "string", true, "1–64 characters of a-z 0-9 . _ -; at most two live keys share one"},
      {"scopes", "[string]", true, "what it may do; never more than the key that makes it"},
      {"models", "[string]", false, "the only models it may call; absent for all"},
      {"expires_at", "integer", false, "Unix seconds"}}},
    {"Key",
     "an API key",
     {{"id", "string", true, "key_…"},
      {"object", "string", true, "api_key"},
      {"name", "string", true, "who uses it"},
      {"scopes", "[string]", true, "what it may do"},
      {"models", "[string]?", true, "the only models it may call; null for all"},
      {"status", "string", true, "active, revoked or expired"},
      {"created_at", "integer", true, "Unix seconds"},
      {"expires_at", "integer?", true, "Unix seconds"},
      {"revoked_at", "integer?", true, "Unix seconds"},
      {"secret", "string", false, "the key itself; shown once, when it is made"}}},
    {"Tenant",
     "who the key belongs to",
     {{"id", "string", true, "ten_…"},
      {"object", "string", true, "tenant"},
      {"name", "string", true, "the tenant's name"},
      {"status", "string", true, "active"},
      {"plan", "string", true, "the plan's name"},
      {"created_at", "integer", true, "Unix seconds"},
      {"key", "TenantKey", true, "the key that asks"},
      {"quotas", "object", true, "the plan's limits"},
      {"prices", "object", true, "the plan's prices"}}},
    {"TenantKey",
     "the key that asks",
     {{"id", "string", true, "key_…"}, {"scopes", "[string]", true, "what it may do"}}},
    {"Deleted",
     "what was deleted",
     {{"id", "string", true, "its id"},
      {"object", "string", true, "its kind"},
      {"deleted", "boolean", true, "true"}}},
    {"InferRequest",
     "an Open Inference Protocol request",
     {{"id", "string", false, "given back"},
      {"parameters", "object", false, "timeout in µs, for one"},
      {"inputs", "[object]", true, "name, shape, datatype, data"},
      {"outputs", "[object]", false, "the outputs that are wanted"}}},
    {"InferResponse",
     "an Open Inference Protocol answer",
     {{"model_name", "string", true, "the model"},
      {"model_version", "string", true, "the version that answered"},
      {"id", "string", false, "the request's"},
      {"outputs", "[object]", true, "name, shape, datatype, data"}}},
    {"ModelMetadata",
     "Open Inference Protocol metadata of a model",
     {{"name", "string", true, "the model"},
      {"versions", "[string]", true, "its versions' numbers"},
      {"platform", "string", true, "tenor"},
      {"inputs", "[object]", true, "name, datatype, shape"},
      {"outputs", "[object]", true, "name, datatype, shape"}}},
    {"ServerMetadata",
     "Open Inference Protocol metadata of the server",
     {{"name", "string", true, "tenor"},
      {"version", "string", true, "the release"},
      {"extensions", "[string]", true, "protocol extensions that are offered"}}},
    {"Live", "whether the process runs", {{"live", "boolean", true, "true"}}},
    {"Ready", "whether requests are taken", {{"ready", "boolean", true, "true"}}},
    {"ModelReady",
     "whether a model answers at once",
     {{"name", "string", true, "the model"},
      {"ready", "boolean", true, "true"},
      {"loaded", "boolean", true, "whether some worker holds it already"}}},
    {"TfsRequest",
     "a TensorFlow Serving request; either instances or inputs",
     {{"signature_name", "string", false, "serving_default"},
      {"instances", "[any]", false, "rows"},
      {"inputs", "any", false, "columns"}}},
    {"TfsExamples",
     "a TensorFlow Serving request for classes or values",
     {{"signature_name", "string", false, "serving_default"},
      {"context", "object", false, "features that all examples share"},
      {"examples", "[object]", true, "a row each: features by the inputs' names"}}},
    {"TfsClasses",
     "a TensorFlow Serving answer to :classify",
     {{"result", "[any]", true,
       "for each example [[label, score], …]: every class with its probability, in the signature's "
       "order; the chosen class alone where the signature names none"}}},
    {"TfsValues",
     "a TensorFlow Serving answer to :regress",
     {{"result", "[number]", true, "for each example its value"}}},
    {"TfsMetadata",
     "TensorFlow Serving's metadata of a version",
     {{"model_spec", "object", true, "name and version"}, {"metadata", "object", true, "signature_def"}}},
    {"TfsStatus",
     "TensorFlow Serving's status of a version",
     {{"model_version_status", "[VersionStatus]", true, "the one version"}}},
    {"TfsResponse",
     "a TensorFlow Serving answer",
     {{"predictions", "[any]", false, "for instances"}, {"outputs", "any", false, "for inputs"}}},
};
const size_t shape_table_len = sizeof(shape_table) / sizeof(shape_table[0]);

static const char *const basic_types[] = {"string", "integer", "number", "boolean", "object"};
enum { BASIC_TYPES = sizeof(basic_types) / sizeof(basic_types[0]) };

static const struct shape *find_n(const char *name, size_t len)
{
    for (size_t i = 0; i < shape_table_len; i++)
        if (strlen(shape_table[i].name) == len && memcmp(shape_table[i].name, name, len) == 0)
            return &shape_table[i];
    return NULL;
}

const struct shape *shape_find(const char *name)
{
    return find_n(name, strlen(name));
}

static const char *basic_of(const char *type, size_t len)
{
    for (size_t i = 0; i < BASIC_TYPES; i++)
        if (strlen(basic_types[i]) == len && memcmp(basic_types[i], type, len) == 0) return basic_types[i];
    return NULL;
}

static bool type_known_n(const char *type, size_t len)
{
    if (len > 0 && type[len - 1] == '?') return type_known_n(type, len - 1);
    if (len > 2 && type[0] == '[' && type[len - 1] == ']') return type_known_n(type + 1, len - 2);
    if (len == 3 && memcmp(type, "any", 3) == 0) return true;
    return basic_of(type, len) != NULL || find_n(type, len) != NULL;
}

bool shape_type_known(const char *type)
{
    return type_known_n(type, strlen(type));
}

static void ref_members(struct json_writer *w, const struct shape *ref, bool nullable)
{
    char path[96];
    snprintf(path, sizeof(path), "#/components/schemas/%s", ref->name);
    if (!nullable) {
        jw_kstr(w, "$ref", path);
        return;
    }
    jw_name(w, "anyOf");
    jw_arr(w);
    jw_obj(w);
    jw_kstr(w, "$ref", path);
    jw_obj_end(w);
    jw_obj(w);
    jw_kstr(w, "type", "null");
    jw_obj_end(w);
    jw_arr_end(w);
}

/* The members of a schema object for the type; the caller has opened the object. */
static void type_members(struct json_writer *w, const char *type, size_t len, bool nullable)
{
    if (type[len - 1] == '?') {
        type_members(w, type, len - 1, true);
        return;
    }
    const char *basic = basic_of(type, len);
    const struct shape *ref = basic == NULL ? find_n(type, len) : NULL;
    if (ref != NULL) {
        ref_members(w, ref, nullable);
        return;
    }
    const char *name = basic != NULL ? basic : type[0] == '[' ? "array" : NULL;
    if (name == NULL) return; /* any */
    jw_name(w, "type");
    if (nullable) {
        jw_arr(w);
        jw_str(w, name);
        jw_str(w, "null");
        jw_arr_end(w);
    } else {
        jw_str(w, name);
    }
    if (type[0] != '[') return;
    jw_name(w, "items");
    jw_obj(w);
    type_members(w, type + 1, len - 2, false);
    jw_obj_end(w);
}

void shape_type_write(struct json_writer *w, const char *type)
{
    jw_obj(w);
    type_members(w, type, strlen(type), false);
    jw_obj_end(w);
}

void shape_write(struct json_writer *w, const struct shape *s)
{
    jw_obj(w);
    jw_kstr(w, "type", "object");
    jw_kstr(w, "description", s->summary);
    jw_name(w, "required");
    jw_arr(w);
    for (const struct shape_field *f = s->fields; f->name != NULL; f++)
        if (f->required) jw_str(w, f->name);
    jw_arr_end(w);
    jw_name(w, "properties");
    jw_obj(w);
    for (const struct shape_field *f = s->fields; f->name != NULL; f++) {
        jw_name(w, f->name);
        jw_obj(w);
        type_members(w, f->type, strlen(f->type), false);
        jw_kstr(w, "description", f->help);
        jw_obj_end(w);
    }
    jw_obj_end(w);
    jw_obj_end(w);
}
