# SPDX-License-Identifier: Apache-2.0
# How this tree declares its targets. Include paths start at the root: #include "ipc/channel.h".

include(GoogleTest)
include(precompiled)

function(bulkhead_configure_target target scope)
  target_include_directories(${target} ${scope} $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>)
endfunction()

# bulkhead_library(NAME [SOURCES file...] [LIBS lib...] [PRIVATE_LIBS lib...])
# A static library; one of headers alone when it has no sources. LIBS are those its headers use.
function(bulkhead_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LIBS;PRIVATE_LIBS")
  bulkhead_reject_unparsed(${name})
  if(NOT arg_SOURCES)
    add_library(${name} INTERFACE)
    bulkhead_configure_target(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE ${arg_LIBS} ${arg_PRIVATE_LIBS})
    return()
  endif()
  add_library(${name} STATIC ${arg_SOURCES})
  bulkhead_configure_target(${name} PUBLIC)
  target_link_libraries(${name} PUBLIC ${arg_LIBS}
                        PRIVATE ${arg_PRIVATE_LIBS} $<BUILD_INTERFACE:bulkhead_options>)
  bulkhead_precompile(${name} library)
endfunction()

# bulkhead_executable(NAME SOURCES file... [LIBS lib...] [OUTPUT name])
# A program in <build>/bin. OUTPUT is its file name when that is not the target's.
function(bulkhead_executable name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "OUTPUT" "SOURCES;LIBS")
  bulkhead_reject_unparsed(${name})
  add_executable(${name} ${arg_SOURCES})
  bulkhead_configure_target(${name} PRIVATE)
  target_link_libraries(${name} PRIVATE ${arg_LIBS} bulkhead_options)
  if(arg_OUTPUT)
    set_target_properties(${name} PROPERTIES OUTPUT_NAME ${arg_OUTPUT})
  endif()
endfunction()

# bulkhead_driver(NAME SOURCES file... [LIBS lib...] [FILES file...] [INSTALL])
# A driver folder as the host expects it: <build>/drivers/NAME/NAME.so, and FILES (manifest, content)
# beside it under the names they have here. It links bulkhead_sdk and no other library of this tree.
function(bulkhead_driver name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "INSTALL" "" "SOURCES;LIBS;FILES")
  bulkhead_reject_unparsed(${name})
  set(folder ${PROJECT_BINARY_DIR}/drivers/${name})
  set(target bulkhead_driver_${name})
  add_library(${target} MODULE ${arg_SOURCES})
  target_link_libraries(${target} PRIVATE bulkhead_sdk ${arg_LIBS} bulkhead_options)
  set_target_properties(${target} PROPERTIES
    PREFIX "" OUTPUT_NAME ${name} LIBRARY_OUTPUT_DIRECTORY ${folder}
    C_VISIBILITY_PRESET hidden CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
  foreach(file IN LISTS arg_FILES)
    configure_file(${file} ${folder}/${file} COPYONLY)
  endforeach()
  if(arg_INSTALL)
    # File by file: the folder also has what CMake and the compiler leave in a build folder.
    set(installed lib/bulkhead/drivers/${name})
    install(TARGETS ${target} LIBRARY DESTINATION ${installed})
    foreach(file IN LISTS arg_FILES)
      get_filename_component(below ${file} DIRECTORY)
      install(FILES ${file} DESTINATION ${installed}/${below})
    endforeach()
  endif()
endfunction()

# bulkhead_test(NAME SOURCES file... [LIBS lib...] [LABELS label...] [TIMEOUT seconds]
#               [DEPENDS target...] [ENVIRONMENT NAME=value...] [COST seconds] [SERIAL])
# A GoogleTest program, each of its tests registered with ctest. LABELS: unit (the default),
# integration. DEPENDS names programs that the test starts. SERIAL: no other test runs meanwhile (for
# tests that use all CPUs or a resource of the whole machine). COST: about how long one takes, where that is
# seconds; ctest starts the longest first, so that no CPU idles at the end.
function(bulkhead_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "SERIAL" "TIMEOUT;COST"
                        "SOURCES;LIBS;LABELS;DEPENDS;ENVIRONMENT")
  bulkhead_reject_unparsed(${name})
  if(NOT BUILD_TESTING OR BULKHEAD_FUZZ)
    return()
  endif()
  if(NOT arg_LABELS)
    set(arg_LABELS unit)
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 60)
  endif()
  add_executable(${name} ${arg_SOURCES})
  bulkhead_configure_target(${name} PRIVATE)
  target_link_libraries(${name} PRIVATE ${arg_LIBS} bulkhead_options GTest::gmock_main)
  target_compile_options(${name} PRIVATE ${BULKHEAD_TEST_OPTIONS})
  bulkhead_precompile(${name} test)
  set_target_properties(${name} PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin/tests)
  if(arg_DEPENDS)
    add_dependencies(${name} ${arg_DEPENDS})
  endif()
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60 TEST_PREFIX "${name}.")
  # gtest_discover_tests flattens properties that are lists. ctest reads this file after it has
  # discovered the tests; <name>_TESTS has their names.
  set(properties "LABELS [==[${arg_LABELS}]==] TIMEOUT ${arg_TIMEOUT}")
  if(arg_ENVIRONMENT)
    string(APPEND properties " ENVIRONMENT [==[${arg_ENVIRONMENT}]==]")
  endif()
  if(arg_COST)
    string(APPEND properties " COST ${arg_COST}")
  endif()
  if(arg_SERIAL)
    string(APPEND properties " RUN_SERIAL ON")
  endif()
  set(properties_file ${CMAKE_CURRENT_BINARY_DIR}/${name}_properties.cmake)
  file(CONFIGURE OUTPUT ${properties_file} @ONLY CONTENT
"if(@name@_TESTS)
  set_tests_properties(\${@name@_TESTS} PROPERTIES @properties@)
endif()
")
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES ${properties_file})
endfunction()

# bulkhead_fuzzer(NAME SOURCES file... [LIBS lib...])
# A libFuzzer target (LLVMFuzzerTestOneInput), in the preset fuzz only. Its seeds are in
# tests/fuzz/corpus/NAME; new inputs and findings go to the build folder.
function(bulkhead_fuzzer name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LIBS")
  bulkhead_reject_unparsed(${name})
  if(NOT BULKHEAD_FUZZ)
    return()
  endif()
  add_executable(${name} ${arg_SOURCES})
  bulkhead_configure_target(${name} PRIVATE)
  target_link_libraries(${name} PRIVATE ${arg_LIBS} bulkhead_options)
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  set_target_properties(${name} PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin/fuzz)
  add_dependencies(fuzzers ${name})
  if(BULKHEAD_COVERAGE)
    return()
  endif()

  set(found ${PROJECT_BINARY_DIR}/corpus/${name})
  set(artifacts ${PROJECT_BINARY_DIR}/findings/${name})
  file(MAKE_DIRECTORY ${found} ${artifacts})
  set(seeds ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${name})
  if(NOT EXISTS ${seeds})
    set(seeds)
  endif()
  math(EXPR timeout "${BULKHEAD_FUZZ_SECONDS} + 60")
  add_test(NAME fuzz.${name}
           COMMAND ${name} -max_total_time=${BULKHEAD_FUZZ_SECONDS} -timeout=10
                   -print_final_stats=1 -artifact_prefix=${artifacts}/ ${found} ${seeds})
  set_tests_properties(fuzz.${name} PROPERTIES LABELS fuzz TIMEOUT ${timeout})
endfunction()

# bulkhead_flatbuffers(NAME SCHEMAS file.fbs...)
# A headers-only library: each file.fbs becomes file_generated.h, included by its path from the
# root (ipc/schema/control.fbs -> "ipc/schema/control_generated.h"). Generated headers are SYSTEM.
function(bulkhead_flatbuffers name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SCHEMAS")
  bulkhead_reject_unparsed(${name})
  set(headers)
  foreach(schema IN LISTS arg_SCHEMAS)
    get_filename_component(stem ${schema} NAME_WE)
    set(header ${CMAKE_CURRENT_BINARY_DIR}/${stem}_generated.h)
    add_custom_command(
      OUTPUT ${header}
      COMMAND ${FLATC_PROGRAM} --cpp --cpp-std c++17 --scoped-enums
              -I ${PROJECT_SOURCE_DIR} -o ${CMAKE_CURRENT_BINARY_DIR}
              ${CMAKE_CURRENT_SOURCE_DIR}/${schema}
      DEPENDS ${arg_SCHEMAS}
      COMMENT "flatc ${schema}"
      VERBATIM)
    list(APPEND headers ${header})
  endforeach()
  add_custom_target(${name}_generate DEPENDS ${headers})
  add_library(${name} INTERFACE)
  add_dependencies(${name} ${name}_generate)
  target_include_directories(${name} SYSTEM INTERFACE $<BUILD_INTERFACE:${PROJECT_BINARY_DIR}>)
  target_link_libraries(${name} INTERFACE flatbuffers::flatbuffers)
endfunction()

# bulkhead_kernel_module(NAME TARGET target KERNEL folder OUTPUT folder FOLDERS folder...)
# OUTPUT/NAME.ko, by the build system of the kernel headers in KERNEL. It writes beside its
# sources, so it gets a copy of FOLDERS and what lies below them; the first has the Kbuild.
function(bulkhead_kernel_module name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "TARGET;KERNEL;OUTPUT" "FOLDERS")
  bulkhead_reject_unparsed(${name})
  set(tree ${arg_OUTPUT}/tree)
  set(copies)
  foreach(folder IN LISTS arg_FOLDERS)
    file(GLOB_RECURSE sources CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR}
         ${PROJECT_SOURCE_DIR}/${folder}/*.[ch] ${PROJECT_SOURCE_DIR}/${folder}/*.def
         ${PROJECT_SOURCE_DIR}/${folder}/*.def
         ${PROJECT_SOURCE_DIR}/${folder}/Kbuild)
    foreach(source IN LISTS sources)
      add_custom_command(
        OUTPUT ${tree}/${source}
        COMMAND ${CMAKE_COMMAND} -E copy ${PROJECT_SOURCE_DIR}/${source} ${tree}/${source}
        DEPENDS ${PROJECT_SOURCE_DIR}/${source}
        VERBATIM)
      list(APPEND copies ${tree}/${source})
    endforeach()
  endforeach()

  list(GET arg_FOLDERS 0 first)
  set(module ${arg_OUTPUT}/${name}.ko)
  add_custom_command(
    OUTPUT ${module}
    COMMAND env -u MAKEFLAGS -u CFLAGS -u CC
            make --silent -C ${arg_KERNEL} M=${tree}/${first} modules
    COMMAND ${CMAKE_COMMAND} -E copy ${tree}/${first}/${name}.ko ${module}
    DEPENDS ${copies} ${arg_KERNEL}/Module.symvers
    COMMENT "kbuild ${name}.ko for ${arg_KERNEL}"
    VERBATIM)
  add_custom_target(${arg_TARGET} ALL DEPENDS ${module})
endfunction()

# A misspelt keyword is an error, not a source file that is never compiled.
macro(bulkhead_reject_unparsed name)
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "${name}: unknown arguments: ${arg_UNPARSED_ARGUMENTS}")
  endif()
endmacro()

if(BULKHEAD_FUZZ)
  add_custom_target(fuzzers)
endif()
