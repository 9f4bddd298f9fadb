# What `cmake --install` puts in place: the spillway program, and the client library with the
# folders that it stands on, so that find_package(spillway) gives spillway::client elsewhere.

include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(headers ${CMAKE_INSTALL_INCLUDEDIR}/spillway)
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/spillway)

if(TARGET spillway)
  install(TARGETS spillway RUNTIME)
endif()

if(TARGET spillway_client)
  set_target_properties(spillway_proto PROPERTIES EXPORT_NAME proto)
  install(TARGETS spillway_base spillway_proto spillway_wire spillway_client
    EXPORT spillway ARCHIVE INCLUDES DESTINATION ${headers})
  install(EXPORT spillway NAMESPACE spillway:: FILE spillway-targets.cmake DESTINATION ${package})
  foreach(folder base wire)
    install(DIRECTORY ${PROJECT_SOURCE_DIR}/${folder}
      DESTINATION ${headers} FILES_MATCHING PATTERN "*.h")
  endforeach()
  install(FILES ${PROJECT_SOURCE_DIR}/client/client.h DESTINATION ${headers}/client)
  install(FILES ${PROJECT_SOURCE_DIR}/wire/spillway.proto
    ${PROJECT_BINARY_DIR}/wire/spillway.pb.h DESTINATION ${headers}/wire)

  configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/spillway-config.cmake.in
    ${PROJECT_BINARY_DIR}/spillway-config.cmake INSTALL_DESTINATION ${package})
  write_basic_package_version_file(${PROJECT_BINARY_DIR}/spillway-config-version.cmake
    COMPATIBILITY SameMinorVersion)
  install(FILES ${PROJECT_BINARY_DIR}/spillway-config.cmake
    ${PROJECT_BINARY_DIR}/spillway-config-version.cmake DESTINATION ${package})
endif()
