#define KAN_CUDA_TYPE float
#include "gather.cuh"
