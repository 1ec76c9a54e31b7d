/* How usage, invoices and audit rows are shown: used by the billing commands and the demo. */
#ifndef ADMIN_CLI_BILLING_H
#define ADMIN_CLI_BILLING_H

#include <cjson/cJSON.h>

void billing_month_now(char out[8]); /* "2026-01", UTC */
void billing_print_usage(const cJSON *page);
void billing_print_invoice(const cJSON *invoice);
void billing_print_audit(const cJSON *list);

#endif
