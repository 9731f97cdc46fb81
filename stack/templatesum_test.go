package stack_test

// templateSum is that of template.yaml, see TestTemplateNumber.
const templateSum = "a9864835edfb2d8a7dc9f526c1159e093c68397e0f87a839fa93414513d72d93"
