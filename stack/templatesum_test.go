package stack_test

// templateSum is that of template.yaml, see TestTemplateNumber.
const templateSum = "50f083e112a37d5571f6be6734e44a6cd6ce971af384bb2486eaae2d58ed57b9"
