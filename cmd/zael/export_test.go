package main

// Main is what the tests of this package run as a process of its own.
var Main = main
