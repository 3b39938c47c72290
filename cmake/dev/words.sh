# SPDX-License-Identifier: Apache-2.0
# Plain words in comments, literals and documentation: cmake/dev/words.tsv has the list.

check_words() {
  { source_files c h cc hpp pml fbs proto def js css md sh py cmake
    find . -name build -prune -o -name CMakeLists.txt -printf '%P\0'; } |
    xargs -0 python3 cmake/dev/words.py cmake/dev/words.tsv
}
