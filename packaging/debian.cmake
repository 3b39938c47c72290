# SPDX-License-Identifier: Apache-2.0
# Three packages: bulkhead, libbulkhead-dev, bulkhead-dkms. The files that only a Debian package has are
# of the component debian, which `cmake --install` leaves out; their places are absolute.
#
# The same build makes the same packages again where SOURCE_DATE_EPOCH is the same.
set(BULKHEAD_MAINTAINER "Bulkhead maintainers <maintainers@bulkhead.invalid>" CACHE STRING
    "The field Maintainer of the Debian packages")
set(debian ${CMAKE_CURRENT_SOURCE_DIR}/debian)
set(work ${CMAKE_CURRENT_BINARY_DIR}/debian)

# bulkhead.*.in, bulkhead-dkms.*.in: maintainer scripts.
file(GLOB scripts CONFIGURE_DEPENDS RELATIVE ${debian} ${debian}/bulkhead*.p*.in)
foreach(script IN LISTS scripts)
  string(REGEX REPLACE "^([^.]*)[.]([^.]*)[.]in$" "\\1/\\2" target ${script})
  configure_file(${debian}/${script} ${work}/${target} @ONLY FILE_PERMISSIONS
    OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
endforeach()

# The date of the changelog is the packages'. gzip, because Debian wants it so, without a name and time.
string(TIMESTAMP changelog_date "%a, %d %b %Y %H:%M:%S +0000" UTC)
configure_file(${debian}/changelog.in ${work}/changelog @ONLY)
execute_process(COMMAND ${GZIP_PROGRAM} -9nc ${work}/changelog OUTPUT_FILE ${work}/changelog.gz
                COMMAND_ERROR_IS_FATAL ANY)

function(bulkhead_debian_documents package component)
  install(FILES ${debian}/copyright ${work}/changelog.gz DESTINATION /usr/share/doc/${package}
          COMPONENT ${component} EXCLUDE_FROM_ALL)
  if(EXISTS ${debian}/${package}.lintian-overrides)
    install(FILES ${debian}/${package}.lintian-overrides DESTINATION /usr/share/lintian/overrides
            RENAME ${package} COMPONENT ${component} EXCLUDE_FROM_ALL)
  endif()
endfunction()
bulkhead_debian_documents(bulkhead debian)
bulkhead_debian_documents(libbulkhead-dev debian-sdk)
bulkhead_debian_documents(bulkhead-dkms debian-dkms)

install(FILES systemd/bulkhead.service systemd/bulkhead-module.service
        DESTINATION /lib/systemd/system COMPONENT debian EXCLUDE_FROM_ALL)
install(FILES systemd/sysusers.conf DESTINATION /usr/lib/sysusers.d RENAME bulkhead.conf
        COMPONENT debian EXCLUDE_FROM_ALL)
set(conffiles /etc/bulkhead/bulkhead.toml /etc/bulkhead/rules/eicar.yar /etc/apparmor.d/bulkhead)
install(FILES config/bulkhead.toml DESTINATION /etc/bulkhead COMPONENT debian EXCLUDE_FROM_ALL)
install(FILES ${PROJECT_SOURCE_DIR}/drivers/scanner/rules/eicar.yar DESTINATION /etc/bulkhead/rules
        COMPONENT debian EXCLUDE_FROM_ALL)
install(FILES apparmor/bulkhead DESTINATION /etc/apparmor.d COMPONENT debian EXCLUDE_FROM_ALL)
string(REPLACE ";" "\n" conffiles "${conffiles}\n")
file(WRITE ${work}/bulkhead/conffiles.new "${conffiles}")
configure_file(${work}/bulkhead/conffiles.new ${work}/bulkhead/conffiles COPYONLY)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME bulkhead)
set(CPACK_PACKAGE_VENDOR Bulkhead)
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "")  # or it is put before each of the descriptions below
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_DIRECTORY ${PROJECT_BINARY_DIR}/packages)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_SET_DESTDIR OFF)
set(CPACK_STRIP_FILES ON)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
    OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
set(CPACK_COMPONENTS_ALL bulkhead debian sdk debian-sdk dkms debian-dkms)
set(CPACK_COMPONENT_BULKHEAD_GROUP service)
set(CPACK_COMPONENT_DEBIAN_GROUP service)
set(CPACK_COMPONENT_SDK_GROUP sdk)
set(CPACK_COMPONENT_DEBIAN-SDK_GROUP sdk)
set(CPACK_COMPONENT_DKMS_GROUP dkms)
set(CPACK_COMPONENT_DEBIAN-DKMS_GROUP dkms)

set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_MAINTAINER ${BULKHEAD_MAINTAINER})
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_COMPRESSION_TYPE xz)

set(CPACK_DEBIAN_SERVICE_PACKAGE_NAME bulkhead)
set(CPACK_DEBIAN_SERVICE_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_SERVICE_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_SERVICE_PACKAGE_DEPENDS "init-system-helpers (>= 1.54~), systemd | systemd-sysusers, passwd")
set(CPACK_DEBIAN_SERVICE_PACKAGE_RECOMMENDS "bulkhead-dkms")
set(CPACK_DEBIAN_SERVICE_PACKAGE_SUGGESTS "apparmor")
set(CPACK_DEBIAN_SERVICE_PACKAGE_CONTROL_EXTRA
    "${work}/bulkhead/postinst;${work}/bulkhead/prerm;${work}/bulkhead/postrm;${work}/bulkhead/conffiles")
set(CPACK_DEBIAN_SERVICE_DESCRIPTION
"runs third-party drivers in restartable user-mode processes
Virus scanners and other drivers that decide about opens and executions of
files run in processes of their own. One that crashes or hangs is started
again, and the accesses that wait for it go to its next process.

This package has the service, its command line, and the drivers scanner (YARA
rules) and null.")

set(CPACK_DEBIAN_SDK_PACKAGE_NAME libbulkhead-dev)
set(CPACK_DEBIAN_SDK_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_SDK_PACKAGE_SUGGESTS "bulkhead, g++, cmake")
set(CPACK_DEBIAN_SDK_DESCRIPTION
"headers for drivers that Bulkhead runs
Bulkhead runs third-party drivers in restartable user-mode processes.

This package has what a driver includes, and how CMake and pkg-config find it.")

set(CPACK_DEBIAN_DKMS_PACKAGE_NAME bulkhead-dkms)
set(CPACK_DEBIAN_DKMS_PACKAGE_SECTION kernel)
set(CPACK_DEBIAN_DKMS_PACKAGE_ARCHITECTURE all)
set(CPACK_DEBIAN_DKMS_PACKAGE_DEPENDS "dkms (>= 2.1.0.0)")
set(CPACK_DEBIAN_DKMS_PACKAGE_RECOMMENDS "bulkhead")
set(CPACK_DEBIAN_DKMS_PACKAGE_CONTROL_EXTRA "${work}/bulkhead-dkms/postinst;${work}/bulkhead-dkms/prerm")
set(CPACK_DEBIAN_DKMS_DESCRIPTION
"kernel module of Bulkhead, in source, for DKMS
Bulkhead runs third-party drivers in restartable user-mode processes.

With this module calls come to them from inside the kernel, in shared memory;
without it, through fanotify. DKMS builds it for each kernel whose headers are
installed.")
include(CPack)
