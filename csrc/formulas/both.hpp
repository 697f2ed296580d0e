// Functions of host and device that may stay calls.
#pragma once

#if defined(__CUDACC__)
#define NTK_BOTH __host__ __device__
#else
#define NTK_BOTH
#endif
