-- Forgets messages for good; unknown ones are fine.
--
-- KEYS[1]  the queue's stream
-- ARGV[1]  the group of all receivers
-- ARGV[2+] the messages' ids

redis.call('XACK', KEYS[1], unpack(ARGV))
redis.call('XDEL', KEYS[1], unpack(ARGV, 2))
