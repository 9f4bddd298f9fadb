# The ways to make a target here.

# What every target of ours has in common. With PCH, compiles `headers` once for the target.
function(spillway_target target)
  cmake_parse_arguments(ARG "" "" "PCH" ${ARGN})
  target_compile_options(${target} PRIVATE
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror)
  if(ARG_PCH AND SPILLWAY_PCH)
    target_precompile_headers(${target} PRIVATE ${ARG_PCH})
    # ccache needs the preprocessor to name the precompiled header in its output.
    target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess>)
  endif()
endfunction()

# spillway_library(NAME SOURCES ... [PUBLIC targets] [PRIVATE targets] [PCH headers]): one folder,
# one target, with all that it may include spelled out. PCH is for headers that most of the sources
# include and that take a second to compile, such as <boost/asio.hpp>.
function(spillway_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;PUBLIC;PRIVATE;PCH" ${ARGN})
  set(target spillway_${name})
  add_library(${target} STATIC ${ARG_SOURCES})
  add_library(spillway::${name} ALIAS ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
  # Headers name each other from the root, "base/block.h", in the tree and where they are installed.
  target_include_directories(${target} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}> $<BUILD_INTERFACE:${PROJECT_BINARY_DIR}>)
  target_link_libraries(${target} PUBLIC ${ARG_PUBLIC} PRIVATE ${ARG_PRIVATE})
  spillway_target(${target} PCH ${ARG_PCH})
endfunction()

# spillway_test(NAME SOURCES ... [LIBRARIES ...] [LABEL unit] [TIMEOUT seconds] [PCH headers]): one
# executable per folder; every TEST in it is a test of its own.
function(spillway_test name)
  cmake_parse_arguments(ARG "" "LABEL;TIMEOUT" "SOURCES;LIBRARIES;PCH" ${ARGN})
  if(NOT ARG_LABEL)
    set(ARG_LABEL unit)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 600)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${ARG_LIBRARIES} GTest::gmock GTest::gtest_main)
  spillway_target(${name} PCH ${ARG_PCH})
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60
    PROPERTIES LABELS ${ARG_LABEL} TIMEOUT ${ARG_TIMEOUT})
endfunction()

# spillway_python_test(NAME SCRIPT file [ARGS ...] [LABEL unit] [TIMEOUT seconds]): passes when the
# script exits with 0. It finds what was built through the environment variable SPILLWAY_BIN.
function(spillway_python_test name)
  cmake_parse_arguments(ARG "" "LABEL;TIMEOUT;SCRIPT" "ARGS" ${ARGN})
  if(NOT ARG_LABEL)
    set(ARG_LABEL unit)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 600)
  endif()
  get_filename_component(script ${ARG_SCRIPT} ABSOLUTE)
  add_test(NAME ${name} COMMAND Python3::Interpreter -B ${script} ${ARG_ARGS})
  set_tests_properties(${name} PROPERTIES LABELS ${ARG_LABEL} TIMEOUT ${ARG_TIMEOUT}
    ENVIRONMENT "SPILLWAY_BIN=${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")
endfunction()
