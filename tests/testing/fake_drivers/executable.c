/* SPDX-License-Identifier: Apache-2.0 */
/* A program at a fixed address: an ELF file, but not a shared object. */
int main(void) { return 0; }
