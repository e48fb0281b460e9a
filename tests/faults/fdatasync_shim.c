/* Preloaded into the receiver: the fdatasync whose number is in FAIL_AT fails once with EIO, as a dying disk's does. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

static atomic_long calls;

int fdatasync(int fd) {
  static int (*real)(int);
  if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
  const char *fail_at = getenv("FAIL_AT");
  if (fail_at && atomic_fetch_add(&calls, 1) + 1 == atol(fail_at)) {
    errno = EIO;
    return -1;
  }
  return real(fd);
}
