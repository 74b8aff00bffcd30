/* Reads the request's body after open has returned. */
#define CALL_FIELDS const volatile char *kept;
#define ON_OPENED(call, request) (call)->kept = (request)->body;
#define ON_CLOSE_CALL(call) (void)*(call)->kept;
#include "conforming.c"
