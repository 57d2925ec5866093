#![no_main]

losparse_fuzz::target!(table);
