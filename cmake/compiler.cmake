# SPDX-License-Identifier: Apache-2.0
# Language, optimisation, warnings and sanitizers. All targets of this tree link to the interface
# target bulkhead_options (the helpers in targets.cmake do it); third-party headers are SYSTEM.

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

# Release keeps assertions: no NDEBUG. Debian's Abseil is built without it too.
set(CMAKE_C_FLAGS_RELEASE "-O2 -g")
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g")
set(CMAKE_C_FLAGS_DEBUG "-O0 -g3")
set(CMAKE_CXX_FLAGS_DEBUG "-O0 -g3")

set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib)
set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib)

# Not for coverage: its data names files by the path of the compilation, which a cache may have of another
# checkout.
if(BULKHEAD_CCACHE AND NOT BULKHEAD_COVERAGE)
  find_program(CCACHE_PROGRAM ccache)
  if(CCACHE_PROGRAM)
    # What one checkout has compiled is found from another: paths below the project's root are taken
    # as relative, and debug information is relative to it.
    # The sloppiness is what ccache asks for where headers are precompiled (bulkhead_precompile()).
    set(launcher env CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} CCACHE_NOHASHDIR=1
        CCACHE_SLOPPINESS=pch_defines,time_macros ${CCACHE_PROGRAM})
    set(CMAKE_C_COMPILER_LAUNCHER ${launcher})
    set(CMAKE_CXX_COMPILER_LAUNCHER ${launcher})
    add_compile_options(-fdebug-prefix-map=${PROJECT_SOURCE_DIR}=.)
  endif()
endif()

# No -Wold-style-cast: the C headers that C++ shares with the kernel have C casts. clang-tidy checks
# C++ for them (google-readability-casting), see ./dev lint.
add_library(bulkhead_options INTERFACE)
target_compile_options(bulkhead_options INTERFACE
  -fno-omit-frame-pointer
  -Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Wcast-qual -Wformat=2
  -Wimplicit-fallthrough -Wundef -Wvla -Wno-missing-field-initializers
  # No function is replaced at load time; for that possibility gcc would leave functions uninlined.
  $<$<CXX_COMPILER_ID:GNU>:-fno-semantic-interposition>
  # ipc/mutex.h; tests/structure/unguarded.cc shows that it is checked.
  $<$<COMPILE_LANG_AND_ID:CXX,Clang>:-Wthread-safety>
  $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes -Wmissing-prototypes>
  $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor -Woverloaded-virtual>
  $<$<BOOL:${BULKHEAD_WERROR}>:-Werror>)

if(BULKHEAD_SANITIZE AND NOT BULKHEAD_FUZZ)
  # Half the time to build of -O2 -g; reports still name lines.
  set(CMAKE_C_FLAGS_RELEASE "-O1 -g1")
  set(CMAKE_CXX_FLAGS_RELEASE "-O1 -g1")
endif()

if(BULKHEAD_SANITIZE)
  if(BULKHEAD_SANITIZE MATCHES "thread" AND NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "ThreadSanitizer needs clang: gcc's does not model atomic_thread_fence. "
                        "Use the preset tsan.")
  endif()
  # Global, so that no object file lacks it.
  add_compile_options(-fsanitize=${BULKHEAD_SANITIZE} -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${BULKHEAD_SANITIZE})
  # gcc's flow analysis is confused by the sanitizer's own branches.
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    add_compile_options(-Wno-maybe-uninitialized)
  endif()
endif()

if(BULKHEAD_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "libFuzzer comes with clang. Use the preset fuzz.")
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

if(BULKHEAD_COVERAGE)
  add_compile_options(-fprofile-instr-generate -fcoverage-mapping)
  add_link_options(-fprofile-instr-generate)
endif()

# Of a test's own sources. Lines are enough to read a backtrace, and half of the time to compile a test goes
# into the rest.
set(BULKHEAD_TEST_OPTIONS $<$<CONFIG:Release>:-g1>)
if(BULKHEAD_SANITIZE)
  # Compiles three times as fast. What is tested keeps its optimisation, and release tests all of it.
  list(APPEND BULKHEAD_TEST_OPTIONS -O0)
endif()
