package stack_test

// templateSum is that of template.yaml, see TestTemplateNumber.
const templateSum = "edfec7a8007aa93d1efa09f9cbbbc367b2900972c108a43a4d0144a67278602b"
