package stack_test

// templateSum is that of template.yaml, see TestTemplateNumber.
const templateSum = "2b5ca321c705c8533cee1527a03100d6054acd5dee0096f8bd21cff3dbcc036c"
