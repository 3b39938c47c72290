# SPDX-License-Identifier: Apache-2.0
# Third-party packages, all from Debian 12 (cmake/packages.txt has the purpose of each). Imported
# targets are SYSTEM: their headers never cause warnings.

find_package(Threads REQUIRED)
find_package(absl REQUIRED)                        # absl::status absl::statusor absl::strings …

# Debian has Abseil as some thirty shared libraries. A host is started anew after every crash, and
# binding them takes longer than everything else before main (2.9 ms against 1.4): link the static
# archives of the same package.
get_property(imported DIRECTORY PROPERTY IMPORTED_TARGETS)
foreach(target IN LISTS imported)
  get_target_property(location ${target} IMPORTED_LOCATION_NONE)
  if(target MATCHES "^absl::" AND location MATCHES "[.]so")
    string(REGEX REPLACE "[.]so.*$" ".a" archive ${location})
    if(EXISTS ${archive})
      set_target_properties(${target} PROPERTIES IMPORTED_LOCATION_NONE ${archive})
    endif()
  endif()
endforeach()

find_package(FlatBuffers REQUIRED CONFIG)          # flatbuffers::flatbuffers
find_package(mimalloc REQUIRED CONFIG)             # mimalloc
find_package(CLI11 REQUIRED CONFIG)                # CLI11::CLI11
find_package(spdlog REQUIRED CONFIG)               # spdlog::spdlog
find_package(nlohmann_json REQUIRED CONFIG)        # nlohmann_json::nlohmann_json

if(BUILD_TESTING)
  find_package(GTest REQUIRED CONFIG)              # GTest::gtest GTest::gmock GTest::gmock_main
  find_package(benchmark REQUIRED CONFIG)          # benchmark::benchmark
endif()

find_package(PkgConfig REQUIRED)
pkg_check_modules(seccomp REQUIRED IMPORTED_TARGET libseccomp)   # PkgConfig::seccomp
pkg_check_modules(mount REQUIRED IMPORTED_TARGET mount)          # PkgConfig::mount
pkg_check_modules(capng REQUIRED IMPORTED_TARGET libcap-ng)      # PkgConfig::capng
pkg_check_modules(toml REQUIRED IMPORTED_TARGET tomlplusplus)    # PkgConfig::toml
pkg_check_modules(microhttpd REQUIRED IMPORTED_TARGET libmicrohttpd)  # PkgConfig::microhttpd
pkg_check_modules(ncurses REQUIRED IMPORTED_TARGET ncursesw)     # PkgConfig::ncurses
# Its definitions, for C libraries that hide functions, are not those that the precompiled headers have.
set_target_properties(PkgConfig::ncurses PROPERTIES INTERFACE_COMPILE_OPTIONS "")
pkg_check_modules(systemd REQUIRED IMPORTED_TARGET libsystemd)   # PkgConfig::systemd
pkg_check_modules(yara REQUIRED IMPORTED_TARGET yara)            # PkgConfig::yara

find_program(FLATC_PROGRAM flatc REQUIRED)
