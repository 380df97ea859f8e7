# What the Extensions Index would show, for a test to read.
set(lines "")
foreach(name HOMEPAGE CATEGORY CONTRIBUTORS DESCRIPTION ICONURL SCREENSHOTURLS DEPENDS)
  string(APPEND lines "${name}=${EXTENSION_${name}}\n")
endforeach()
file(WRITE ${CMAKE_BINARY_DIR}/description.txt "${lines}")
