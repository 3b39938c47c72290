# SPDX-License-Identifier: Apache-2.0
# cmake -DOUTPUT=file.cc -DHEADER=path.h -DNAME=function -DFILES="path;path" -P embed.cmake
# A source that has the texts of the files: std::span<const EmbeddedFile> NAME(), which HEADER declares. A
# file's name is the part of its path behind the last '/', without ".in".
set(rows)
foreach(file IN LISTS FILES)
  get_filename_component(name ${file} NAME)
  string(REGEX REPLACE "[.]in$" "" name ${name})
  file(READ ${file} text)
  string(APPEND rows "    {\"${name}\", R\"embedded(${text})embedded\"},\n")
endforeach()
file(WRITE ${OUTPUT}.new "// Made by cmake/embed.cmake.
#include \"${HEADER}\"

namespace bulkhead {
namespace {

constexpr EmbeddedFile kFiles[] = {
${rows}};

}  // namespace

std::span<const EmbeddedFile> ${NAME}() { return kFiles; }

}  // namespace bulkhead
")
file(RENAME ${OUTPUT}.new ${OUTPUT})
