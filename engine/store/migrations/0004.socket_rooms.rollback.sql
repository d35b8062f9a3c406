drop table socket_rooms;
