/* Makes a key and a certificate for localhost, so that a machine without any can speak TLS at its first
 * start. */
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include "base/crypto.h"
#include "base/fs.h"
#include "gateway/http/tls.h"

static const long SECONDS_PER_DAY = 86400;

static bool add_extension(X509 *cert, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx(&context, cert, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    if (!extension) return false;
    bool added = X509_add_ext(cert, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return added;
}

static bool set_serial(X509 *cert)
{
    uint8_t random[16];
    crypto_random(random, sizeof random);
    random[0] = (random[0] & 0x7f) | 0x40; /* positive, and never shorter */
    BIGNUM *number = BN_bin2bn(random, sizeof random, NULL);
    bool set = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert));
    BN_free(number);
    return set;
}

static bool fill_certificate(X509 *cert, EVP_PKEY *key, int days)
{
    X509_NAME *name = X509_get_subject_name(cert);
    static const unsigned char common_name[] = "localhost", organisation[] = "Tenor (self-signed)";
    return X509_set_version(cert, X509_VERSION_3) == 1 && set_serial(cert) &&
           X509_gmtime_adj(X509_getm_notBefore(cert), -3600) && /* for clocks that are a little behind */
           X509_gmtime_adj(X509_getm_notAfter(cert), days * SECONDS_PER_DAY) &&
           X509_NAME_add_entry_by_txt(name, "O", MBSTRING_UTF8, organisation, -1, -1, 0) == 1 &&
           X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, common_name, -1, -1, 0) == 1 &&
           X509_set_issuer_name(cert, name) == 1 && X509_set_pubkey(cert, key) == 1 &&
           add_extension(cert, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1,IP:::1") &&
           add_extension(cert, NID_basic_constraints, "critical,CA:FALSE") &&
           add_extension(cert, NID_key_usage, "critical,digitalSignature") &&
           add_extension(cert, NID_ext_key_usage, "serverAuth") && X509_sign(cert, key, EVP_sha256()) > 0;
}

static int write_pem(BIO *pem, const char *path, mode_t mode, struct err *e)
{
    char *data = NULL;
    long len = BIO_get_mem_data(pem, &data);
    return fs_write_atomic(path, data, (size_t)len, mode, e);
}

int tls_self_signed(const char *cert_file, const char *key_file, int days, struct err *e)
{
    int rc = ERR_INTERNAL;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    BIO *key_pem = BIO_new(BIO_s_secmem()), *cert_pem = BIO_new(BIO_s_mem());
    if (!key || !cert || !key_pem || !cert_pem || !fill_certificate(cert, key, days) ||
        PEM_write_bio_PKCS8PrivateKey(key_pem, key, NULL, NULL, 0, NULL, NULL) != 1 ||
        PEM_write_bio_X509(cert_pem, cert) != 1) {
        rc = err_set(e, ERR_INTERNAL, NULL, "OpenSSL cannot make a self-signed certificate");
    } else {
        /* The key first: a certificate whose key is missing would be found only when a client comes. */
        rc = write_pem(key_pem, key_file, 0600, e);
        if (!rc) rc = write_pem(cert_pem, cert_file, 0644, e);
    }
    BIO_free(cert_pem);
    BIO_free(key_pem);
    X509_free(cert);
    EVP_PKEY_free(key);
    return rc;
}
