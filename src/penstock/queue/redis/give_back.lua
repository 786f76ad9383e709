-- Makes taken messages ready again that nobody saw: the next sweep finds them idle.
--
-- KEYS[1]  the queue's stream
-- ARGV[1]  the group of all receivers
-- ARGV[2]  milliseconds after which a taken message comes again
-- ARGV[3+] the messages' ids

for index = 3, #ARGV do
  redis.call('XCLAIM', KEYS[1], ARGV[1], 'penstock', 0, ARGV[index], 'IDLE', ARGV[2], 'JUSTID')
end
