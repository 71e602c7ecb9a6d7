package recordbatch

const legacyMinLen = 26 // a v0 message with null key and null value
