#define KAN_CUDA_TYPE double
#include "gather.cuh"
