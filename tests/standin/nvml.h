/* Types of the NVML interface, as far as the stand-in gives them.
 *
 * Layouts follow the structures that the Python binding declares; the vendor's own header is not
 * used. test_standin.py reads every structure back through the binding.
 */
#ifndef FARMHAND_STANDIN_NVML_H
#define FARMHAND_STANDIN_NVML_H

#include <stdint.h>

typedef int nvmlReturn_t;
typedef struct handle *nvmlDevice_t;

enum {
    NVML_SUCCESS = 0,
    NVML_ERROR_UNINITIALIZED = 1,
    NVML_ERROR_INVALID_ARGUMENT = 2,
    NVML_ERROR_NOT_SUPPORTED = 3,
    NVML_ERROR_NOT_FOUND = 6,
    NVML_ERROR_INSUFFICIENT_SIZE = 7,
    NVML_ERROR_DRIVER_NOT_LOADED = 9,
    NVML_ERROR_FUNCTION_NOT_FOUND = 13,
    NVML_ERROR_GPU_IS_LOST = 15,
    NVML_ERROR_ARGUMENT_VERSION_MISMATCH = 25,
    NVML_ERROR_DEPRECATED = 26,
};

enum { VALUE_UNSIGNED_INT = 1, VALUE_UNSIGNED_LONG_LONG = 3 };

typedef struct {
    char bus_id_legacy[16];
    unsigned int domain, bus, device, pci_device_id, pci_subsystem_id;
    char bus_id[32];
} nvmlPciInfo_t;

typedef struct {
    unsigned int gpu, memory;
} nvmlUtilization_t;

typedef struct {
    unsigned long long total, free, used;
} nvmlMemory_t;

typedef struct {
    unsigned int version;
    unsigned long long total, reserved, free, used;
} nvmlMemory_v2_t;

typedef struct {
    unsigned long long total, free, used;
} nvmlBAR1Memory_t;

typedef struct {
    unsigned int version, sensor;
    int temperature;
} nvmlTemperature_t;

typedef union {
    double real;
    unsigned int small;
    unsigned long long large;
} nvmlValue_t;

typedef struct {
    uint32_t field_id, scope_id;
    int64_t timestamp_us, latency_us;
    unsigned int value_type;
    nvmlReturn_t result;
    nvmlValue_t value;
} nvmlFieldValue_t;

#endif
