/* The predict road's question "which version is that?", answered from Postgres by a trip to the control pool.
 */
#ifndef GATEWAY_MODEL_LOOKUP_H
#define GATEWAY_MODEL_LOOKUP_H

#include "gateway/predict/predict.h"

/* predict_config.resolve; arg is the struct gateway_loop. Loop thread. */
void model_lookup_resolve(void *arg, struct predict *p, struct route_lookup *lookup, const char *tenant_id,
                          const struct model_ref *ref);

#endif
