package stack_test

// templateSum is that of template.yaml, see TestTemplateNumber.
const templateSum = "306922058924c2135815484cb9aa27ebab9a9f5fd2f26eab9e4cc344c6f5f3e0"
