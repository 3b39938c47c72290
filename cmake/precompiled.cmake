# SPDX-License-Identifier: Apache-2.0
# With clang, the headers that nearly all sources include are compiled once for each set of flags. Reading
# them is half of the time to compile a test. gcc gains little by it; release does without, and so shows that
# each source includes what it uses. Coverage is told by the sources, and does without, too.
set(headers
    algorithm array atomic chrono filesystem fstream functional map memory mutex optional set string
    string_view system_error thread utility vector
    absl/status/status.h absl/status/statusor.h absl/strings/str_cat.h absl/types/span.h)
list(TRANSFORM headers REPLACE "(.+)" "<\\1>")

if(CMAKE_CXX_COMPILER_ID MATCHES "Clang" AND NOT BULKHEAD_COVERAGE)
  # CMake's own options name the files in a form that ccache does not take as relative, and with their times:
  # no checkout would find what another has compiled.
  set(CMAKE_CXX_COMPILE_OPTIONS_CREATE_PCH -Xclang -fno-pch-timestamp -x c++-header -include <PCH_HEADER>)
  set(CMAKE_CXX_COMPILE_OPTIONS_USE_PCH -Xclang -fno-pch-timestamp -include <PCH_HEADER>)
  set(empty ${PROJECT_BINARY_DIR}/precompiled/empty.cc)
  file(CONFIGURE OUTPUT ${empty} CONTENT "")
  foreach(flags IN ITEMS library test)
    add_library(bulkhead_${flags}_headers OBJECT EXCLUDE_FROM_ALL ${empty})
    target_link_libraries(bulkhead_${flags}_headers
      PRIVATE bulkhead_options absl::status absl::statusor absl::strings absl::span)
  endforeach()
  target_precompile_headers(bulkhead_library_headers PRIVATE ${headers})
  if(BUILD_TESTING AND NOT BULKHEAD_FUZZ)
    target_link_libraries(bulkhead_test_headers PRIVATE GTest::gmock_main)
    # As a program's code, which -fPIC would not be.
    set_target_properties(bulkhead_test_headers PROPERTIES POSITION_INDEPENDENT_CODE OFF)
    target_compile_options(bulkhead_test_headers PRIVATE -fPIE ${BULKHEAD_TEST_OPTIONS})
    target_precompile_headers(bulkhead_test_headers PRIVATE ${headers} <gmock/gmock.h> <gtest/gtest.h>)
  endif()
endif()

# bulkhead_precompile(TARGET FLAGS): TARGET is compiled with these flags, library or test.
function(bulkhead_precompile target flags)
  get_target_property(sources ${target} SOURCES)
  if(TARGET bulkhead_${flags}_headers AND NOT sources MATCHES "[.]c(;|$)")
    target_precompile_headers(${target} REUSE_FROM bulkhead_${flags}_headers)
  endif()
endfunction()
