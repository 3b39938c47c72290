# SPDX-License-Identifier: Apache-2.0
# A deliberate race has a comment that begins with SUBTLE and says why it is benign. One for each
# idea, so a file with unordered accesses to memory that other threads change has at least one, or its
# header has it. A place where a sanitizer is switched off has one right above it.

check_races() {
  local file line bad=0
  local unordered='bh_(load|store|add)_relaxed|bh_copy_words|memory_order_relaxed|(READ|WRITE)_ONCE'
  local suppressed='no_sanitize|ANNOTATE_BENIGN|AnnotateBenign|__tsan_|__kcsan|data_race\('
  while IFS= read -r file; do
    grep -qs 'SUBTLE:' "$file" "${file%.*}.h" && continue
    echo "$file: accesses without an order, and no SUBTLE: comment that says why that is benign"
    bad=1
  done < <(find ipc shim host -name '*.[ch]' -o -name '*.cc' |
    grep -vE '_test\.cc$' | sort | xargs grep -lE "$unordered")
  while IFS=: read -r file line _; do
    sed -n "$((line > 5 ? line - 5 : 1)),${line}p" "$file" | grep -q 'SUBTLE:' && continue
    echo "$file:$line: a sanitizer is switched off, and no SUBTLE: comment above says why"
    bad=1
  done < <(source_files c h cc hpp | xargs -0 grep -nE "$suppressed")
  # A list of suppressions apart from the code would not be read with the code.
  if source_files json cmake sh py txt | xargs -0 grep -nE 'suppressions=|tsan_suppress' |
    grep -v '^cmake/dev/races.sh:'; then
    echo "a list of suppressions for a sanitizer: put it at the code, with a SUBTLE: comment"
    bad=1
  fi
  return "$bad"
}
