/* A stand-in for libnvidia-ml.so.1 on a machine without an NVIDIA GPU.
 *
 * It answers the questions that our probe asks through NVIDIA's own Python binding, with the GPU
 * that STAND_IN_GPUS describes: "NVIDIA A10, 575.57.08, 8.6" and, behind ";", further GPUs.
 * Signatures and codes: NVML API reference, nvml.h of CUDA 12.9.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, NOT_FOUND = 6, DRIVER_NOT_LOADED = 9 };

typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned int version; unsigned long long total, reserved, free, used; } MemoryV2;

static const char *described(void) { return getenv("STAND_IN_GPUS"); }

/* The n-th comma-separated field of the first GPU. */
static void field(int n, char *text, unsigned int length) {
    const char *from = described();
    while (n-- > 0) from = strchr(from, ',') + 2;
    unsigned int size = strcspn(from, ",;");
    if (size >= length) size = length - 1;
    memcpy(text, from, size);
    text[size] = 0;
}

int nvmlInit_v2(void) { return described() ? SUCCESS : DRIVER_NOT_LOADED; }
int nvmlInitWithFlags(unsigned int flags) { (void)flags; return nvmlInit_v2(); }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) { return code == DRIVER_NOT_LOADED ? "Driver Not Loaded" : "Unknown Error"; }

int nvmlSystemGetDriverVersion(char *text, unsigned int length) { field(1, text, length); return SUCCESS; }

int nvmlDeviceGetCount_v2(unsigned int *count) {
    *count = 1;
    for (const char *c = described(); *c; c++) *count += *c == ';';
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    *device = (void *)(size_t)(index + 1);
    return SUCCESS;
}

int nvmlDeviceGetName(void *device, char *text, unsigned int length) { (void)device; field(0, text, length); return SUCCESS; }

int nvmlDeviceGetMemoryInfo(void *device, Memory *memory) {
    (void)device;
    memory->total = memory->free = 24ULL << 30;
    memory->used = 0;
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo_v2(void *device, MemoryV2 *memory) {
    (void)device;
    memory->total = memory->free = 24ULL << 30;
    memory->used = memory->reserved = 0;
    return SUCCESS;
}

int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) {
    char text[16];
    (void)device;
    field(2, text, sizeof text);
    return sscanf(text, "%d.%d", major, minor) == 2 ? SUCCESS : NOT_FOUND;
}
