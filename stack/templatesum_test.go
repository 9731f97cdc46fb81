package stack_test

// templateSum is that of template.yaml, see TestTemplateNumber.
const templateSum = "73f242f4a0b396e41588264f14065b372ee6ed31bfe7314c2faaeed2f03c4fe3"
