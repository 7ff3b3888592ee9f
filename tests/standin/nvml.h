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
    NVML_ERROR_TIMEOUT = 10,
    NVML_ERROR_FUNCTION_NOT_FOUND = 13,
    NVML_ERROR_GPU_IS_LOST = 15,
    NVML_ERROR_ARGUMENT_VERSION_MISMATCH = 25,
    NVML_ERROR_DEPRECATED = 26,
};

enum {
    VALUE_DOUBLE,
    VALUE_UNSIGNED_INT,
    VALUE_UNSIGNED_LONG,
    VALUE_UNSIGNED_LONG_LONG,
    VALUE_SIGNED_LONG_LONG,
    VALUE_SIGNED_INT,
    VALUE_UNSIGNED_SHORT,
};

/* Version word of a structure. */
#define VERSION_OF(structure, number)                                                              \
    ((unsigned int)sizeof(structure) | (unsigned int)(number) << 24)

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

typedef struct {
    unsigned int version;
    int margin;
} nvmlMarginTemperature_t;

typedef struct {
    unsigned int version, type, pstate;
    int offset, minimum, maximum;
} nvmlClockOffset_t;

typedef struct {
    unsigned int version, fan, speed;
} nvmlFanSpeedInfo_t;

typedef struct {
    unsigned int version;
    unsigned long long aggregate_parity, aggregate_secded, aggregate_corrected;
    unsigned long long volatile_parity, volatile_secded, volatile_corrected;
    unsigned long long l2, sm, pcie, microcontroller, other;
    unsigned int threshold_exceeded;
} nvmlEccSramErrorStatus_t;

typedef struct {
    unsigned int max, high, partial, low, none;
} nvmlRowRemapperHistogramValues_t;

typedef struct {
    unsigned int correctable, correctable_inactive, uncorrectable, uncorrectable_inactive;
    unsigned int pending, failed;
} nvmlRemappedRowsInfo_v2_t;

typedef struct {
    unsigned int version, unrepairable;
} nvmlUnrepairableMemoryStatus_t;

typedef struct {
    unsigned int version, channel_pending, tpc_pending;
} nvmlRepairStatus_t;

typedef struct {
    unsigned int seconds;
} nvmlBBXTimeData_t;

typedef struct {
    unsigned int pid;
    unsigned long long memory;
    unsigned int gpu_instance, compute_instance;
} nvmlProcessInfo_t;

typedef struct event_set *nvmlEventSet_t;

typedef struct {
    nvmlDevice_t device;
    unsigned long long type, data;
    unsigned int gpu_instance, compute_instance;
} nvmlEventData_t;

typedef struct gpm_sample *nvmlGpmSample_t;

typedef struct {
    unsigned int version, supported;
} nvmlGpmSupport_t;

typedef struct {
    unsigned int id;
    nvmlReturn_t result;
    double value;
    const char *short_name, *long_name, *unit;
} nvmlGpmMetric_t;

/* The array is as long as the binding's; only `count` of its entries are in use. */
typedef struct {
    unsigned int version, count;
    nvmlGpmSample_t first, second;
    nvmlGpmMetric_t metrics[];
} nvmlGpmMetricsGet_t;

typedef union {
    double real;
    unsigned int small;
    unsigned long plain;
    unsigned long long large;
    long long signed_large;
    int signed_small;
    unsigned short tiny;
} nvmlValue_t;

typedef struct {
    uint32_t field_id, scope_id;
    int64_t timestamp_us, latency_us;
    unsigned int value_type;
    nvmlReturn_t result;
    nvmlValue_t value;
} nvmlFieldValue_t;

#endif
